"""Storage format version 1, pinned byte for byte. A change here is another format version, never a fix of this test."""

import hashlib
from typing import NamedTuple

import pytest

from gitml.oid import ObjectFormat, Oid
from gitml.store.chunker import Chunker
from gitml.store.content import store_content
from gitml.store.datatree import write_data_tree
from gitml.store.manifest import Chunk, Manifest, write_manifest
from gitml.store.odb import MemoryOdb
from gitml.store.pointer import format_pointer
from gitml.store.sketch import sketch
from tests.store.samples import noise, safetensors, table

CONTENTS = {
    "table": table(110_000)[:3_000_000],
    "noise": noise(2_000_000),
    "safetensors": safetensors([100_000, 300_000, 65_536, 700_000, 34_464]),
    "zeros": bytes(1_500_000),
}


class Pinned(NamedTuple):
    """What a content is stored as, in a SHA-1 and in a SHA-256 repository."""

    sha256: str
    chunks: list[tuple[int, int | None, str]]
    manifests: tuple[str, str]
    data_trees: tuple[str, str]


PINNED = {
    "table": Pinned(
        "9d3bbfd422727b9dbd850e894ae09f8e4689727b76e02c35987a4efe5f2807e1",
        [
            (350334, 0xB57660D1, "d926498876d06eabe8f7185167455f34af5baec5"),
            (289153, 0x9E3B4CC1, "02fab611c51387dc9cb8292ce9342786bc638c1f"),
            (234358, 0xAD24DE57, "4d1f355e839ee4d4ee6bce80ff79d9ddde5230f0"),
            (181755, 0x03D02AA6, "f69c6bf79120be98db3b49e70d8698ca11504ad7"),
            (470937, 0xC46B8DA3, "95a09ead21b55d008390e8f86c0cd2f3df4fc145"),
            (171902, 0xAD24DE57, "866b40021e449deddc82935bc38f73f42554fb7c"),
            (253023, 0x59D73863, "93ee507a0c88d2d4dd80926994c1e0bb6474587a"),
            (372432, 0xAD24DE57, "8465a2e1657316e61d1fbf89c781718ae425a2de"),
            (99023, 0xF981436B, "1dff2aebdba101c10e83a024b0f9282bc2033a5b"),
            (159390, 0xAD24DE57, "a68838182dd9b0d949341ccae41fde85f11bc0c9"),
            (329324, 0xAD24DE57, "48fb92f10cfcc5e47a5d6ca474d1a14418127fef"),
            (88369, 0xC46B8DA3, "0c811ad879963eb7e322944f44e4ff857c6a29b1"),
        ],
        (
            "70fe639086a0439717a1ab111825616c86e69a84",
            "e0f483c4aed18c3447afae778009f0b8a4fac32d15a3ee61b969d6b3bcde2705",
        ),
        (
            "75a5c33bf1d44aae42fa68df61d9439317c5f016",
            "6dc9aef8e4f634a9d6aca3fada9aa47301ec6c8396456143a61782dd96db7133",
        ),
    ),
    "noise": Pinned(
        "03e8a86a011bc76093cf5f01ae267f15b36f9243a350d2dcd12498124448d2c2",
        [
            (396403, None, "616992665de3854a896347977aecf82e4a517f62"),
            (121467, None, "f85043ebb2945926d54a27c8b738f0ff7c529483"),
            (342765, None, "c50ee8d2491d4bb91eebc3ee43850a2060ae4103"),
            (440419, None, "b7eca252850191d03464e4ab0be82935ebbc297c"),
            (292458, None, "e755ebcd20f3aba8e5b4239a0527c7302e2855c4"),
            (293580, None, "356bf51749bb911b266d8032373a59ab6f8bae28"),
            (112908, None, "00c0bac24498319d0c39b95ea2c835426283f89a"),
        ],
        (
            "45406aa43977011f8da9a436a9280949b49a4fe1",
            "d16747f00a3204d5ee888cb6c5e46a9b2fedfdfd1d896d76bb550da8ede68e20",
        ),
        (
            "d75e5797f0e630afb81ddd18d71dd5db4bf5c5c4",
            "858e9e07d55232e70bb570ef4b0ed01e6165ca9a3b2f4384bfbe41cb1e377629",
        ),
    ),
    "safetensors": Pinned(
        "bd40ab381f617153b13628f84f2e737e08b64fe76d1d68de5fc3a56f7ef8da51",
        [
            (100407, None, "c6f36b048a13f1ca8e10590929e9bd17034be85c"),
            (293127, None, "b42c9c8d0edaac0dd8b986139252ba46d9d51664"),
            (72409, None, "a9bfed2705b33093f2227f0f011f69179d600603"),
            (348056, None, "2b77077c26028c97a892e067c0aff01ecb701121"),
            (351944, None, "bb4845d295a6d5edd66078593f83dedd658117d2"),
            (34464, None, "a31c3c03eaee61c8093027bf0ca5bddd0b8d0de3"),
        ],
        (
            "88c1054912aaef6e28888b3b6bb86d74813b0067",
            "6e97b310512c879964ec1ac057f03a6219363545cd66952480f94b4e03540b42",
        ),
        (
            "2bd191d62400e38bd5f3d67cf64146c6f6a2e06d",
            "08115800793d077894f4f8820434266bdb164ddfa93840516ea2b518731bb70d",
        ),
    ),
    "zeros": Pinned(
        "3fb3661f659e89fea0d325bc25ae17d9410cd6c85867e55ed641ed062650a55e",
        [
            (1048576, 0x00000000, "9e0f96a2a253b173cb45b41868209a5d043e1437"),
            (451424, 0x00000000, "ed867c93e018666c44e5da6d7cbbc3e61a138eb0"),
        ],
        (
            "309672d70f01f64327bcb85c8fd2afc0318e9c9d",
            "77ef03dced6f80367519a8333b3a3836e63346f47cca108588d5f7d239b98c07",
        ),
        (
            "1046041c1a6594ce293c9195a6bfe89c17754960",
            "ef8a17a149d8cc3a007513d719ad30e54fb2119b548310c374f39bb4ebb93086",
        ),
    ),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_the_generated_content_is_the_expected_one(name: str) -> None:
    assert hashlib.sha256(CONTENTS[name]).hexdigest() == PINNED[name].sha256


@pytest.mark.parametrize("name", CONTENTS)
def test_chunks_and_sketches(name: str) -> None:
    chunker = Chunker()
    chunks = [*chunker.feed(CONTENTS[name]), *chunker.finish()]
    found = [(len(chunk), sketch(chunk), ObjectFormat.SHA1.oid_of("blob", chunk).hex()) for chunk in chunks]
    assert found == PINNED[name].chunks


@pytest.mark.parametrize(("place", "object_format"), list(enumerate(ObjectFormat)))
@pytest.mark.parametrize("name", CONTENTS)
def test_pointer_manifest_and_data_tree(name: str, place: int, object_format: ObjectFormat) -> None:
    stored = store_content([CONTENTS[name]], MemoryOdb(object_format))
    pinned = PINNED[name]
    assert format_pointer(stored.pointer).decode() == (
        f"gitml pointer 1\nsha256 {pinned.sha256}\nsize {len(CONTENTS[name])}\nmanifest {pinned.manifests[place]}\n"
    )
    assert stored.data_tree.hex() == pinned.data_trees[place]


def test_the_worked_example_of_the_format_document() -> None:
    odb = MemoryOdb()
    stored = store_content([CONTENTS["zeros"]], odb)
    manifest = (
        b"gitml manifest 1\nhash sha1\nlevel 0\nsize 1500000\nchunks 2\n\n"
        + bytes.fromhex("01 00100000 00000000 9e0f96a2a253b173cb45b41868209a5d043e1437")
        + bytes.fromhex("01 0006e360 00000000 ed867c93e018666c44e5da6d7cbbc3e61a138eb0")
    )
    tree = (
        b"100644 00-mlchunk-00000000\0"
        + bytes.fromhex("9e0f96a2a253b173cb45b41868209a5d043e1437")
        + b"100644 01-mlchunk-00000000\0"
        + bytes.fromhex("ed867c93e018666c44e5da6d7cbbc3e61a138eb0")
        + b"100644 manifest\0"
        + bytes.fromhex("309672d70f01f64327bcb85c8fd2afc0318e9c9d")
    )
    assert odb.read(stored.pointer.manifest) == ("blob", manifest)
    assert odb.read(stored.data_tree) == ("tree", tree)


@pytest.mark.parametrize(
    ("count", "manifest", "data_tree"),
    [(40_000, "b4828b1f7218c851dd5c9cb57234be3733d3a5e0", "d6178c10b8e6cb682dcffbced2f5b9e8efd3f667")],
)
def test_a_manifest_of_two_levels_and_a_fanned_out_tree(count: int, manifest: str, data_tree: str) -> None:
    odb = MemoryOdb()
    chunks = [
        Chunk(65536 + number, number * 2654435761 % 2**32, Oid(hashlib.sha1(b"%d" % number).digest()))
        for number in range(count)
    ]
    value = Manifest(sum(chunk.size for chunk in chunks), chunks)
    top = write_manifest(value, odb)
    assert (top.hex(), write_data_tree(top, value, odb).hex()) == (manifest, data_tree)
