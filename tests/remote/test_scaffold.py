"""A pack with the commits that kept its contents before goes as it is; with anything else in it, it does not."""

from collections.abc import Mapping

from gitml.git.stagedchain import write_staged
from gitml.oid import ObjectFormat, Oid
from gitml.remote.scaffold import is_scaffold
from gitml.store.odb import Kind, MemoryOdb
from gitml.store.tree import MODE_FILE, MODE_TREE, Entry, format_tree


class Pack(MemoryOdb):
    """Objects in memory: contents of some files as they were added, and their names in a data commit."""

    def __init__(self) -> None:
        super().__init__(ObjectFormat.SHA1)
        self.tip: Oid | None = None
        self.needed: dict[Oid, bytes] = {}

    def add(self, path: bytes, content: bytes, *, pointer: bool = True) -> None:
        manifest = self.write("blob", content)
        data_tree = self.write("tree", format_tree([(b"manifest", Entry(MODE_FILE, manifest))]))
        text = self.write("blob", b"pointer to " + content) if pointer else None
        self.tip = write_staged(self, path, manifest, data_tree, self.tip, text)
        self.needed |= {manifest: path + b"/manifest", data_tree: path}

    def is_scaffold(self, needed: Mapping[Oid, bytes] | None = None) -> bool:
        wanted = self.needed if needed is None else needed
        return is_scaffold({oid for oid in self.oids() if oid not in wanted}, wanted, self)

    def oids(self) -> list[Oid]:
        return list(self.objects)


def test_what_kept_pushed_contents_is() -> None:
    pack = Pack()
    pack.add(b"a/a", b"one")
    pack.add(b"deep/er/model", b"two", pointer=False)
    pack.add(b"top", b"three")
    assert pack.is_scaffold()


def test_pointers_that_are_pushed_too_are_not_counted() -> None:
    pack = Pack()
    pack.add(b"data/model", b"one")
    pointer = pack.write("blob", b"pointer to one")
    assert pack.is_scaffold({**pack.needed, pointer: b""})


def test_content_that_is_not_pushed_is_not() -> None:
    pack = Pack()
    pack.add(b"data/model", b"one")
    pushed = dict(pack.needed)
    pack.add(b"data/secret", b"two")
    assert not pack.is_scaffold(pushed)


def test_content_under_another_name_is_not() -> None:
    pack = Pack()
    pack.add(b"secret/name", b"one")
    renamed = {oid: name.replace(b"secret/name", b"public") for oid, name in pack.needed.items()}
    assert not pack.is_scaffold(renamed)


def test_any_other_object_is_not() -> None:
    others: list[tuple[Kind, bytes]] = [
        ("blob", b"a password"),
        ("tree", format_tree([(b"secret", Entry(MODE_FILE, Oid(bytes(20))))])),
        (
            "commit",
            b"tree %s\nauthor a <b> 0 +0000\ncommitter a <b> 0 +0000\n\nsecret" % bytes(20).hex().encode(),
        ),
    ]
    for kind, data in others:
        pack = Pack()
        pack.add(b"data/model", b"one")
        pack.write(kind, data)
        assert not pack.is_scaffold()


def test_a_tree_with_more_in_it_is_not() -> None:
    pack = Pack()
    pack.add(b"data/model", b"one")
    (data_tree,) = (oid for oid, name in pack.needed.items() if name == b"data/model")
    (manifest,) = (oid for oid, name in pack.needed.items() if name.endswith(b"/manifest"))
    pack = Pack()
    pack.add(b"data/model", b"one")
    inner = [(b"model", Entry(MODE_TREE, data_tree)), (b"secret", Entry(MODE_FILE, manifest))]
    tree = pack.write("tree", format_tree([(b"data", Entry(MODE_TREE, pack.write("tree", format_tree(inner))))]))
    head = b"tree %s\nauthor a <b> 0 +0000\ncommitter a <b> 0 +0000\n\n" % tree.hex().encode()
    pack.write("commit", head + b"staged %s\n\ndata/model" % manifest.hex().encode())
    assert not pack.is_scaffold()
