"""What is in archives of images, and how they are kept unpacked."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gitml.pipeline.archive import Image, opened
from gitml.pipeline.imagestore import ImageStore, Unpacked
from gitml.pipeline.unpack import ImageError
from tests.images import configuration, digest, layer, oci, saved, write_directory, write_tar

LAYERS = [layer(("etc/", ""), ("etc/a", "1")), layer(("etc/a", "2"), ("b", "3"))]
SETTINGS: dict[str, Any] = {"Env": ["PATH=/opt/bin", "X=a=b"], "WorkingDir": "/srv", "User": "me", "Cmd": ["no"]}
CONFIG = digest(configuration(LAYERS, SETTINGS))


def read(path: Path, name: str = "x", wanted: str | None = None) -> tuple[Image, int]:
    """The image of an archive, and how many layers it has, all of them read and checked."""
    with opened(path) as archive:
        image = archive.image(name, wanted)
        count = 0
        for each in archive.layers():
            each.check()
            count += 1
        return image, count


@pytest.mark.parametrize("form", ["directory", "tar", "tar.gz", "plain layers", "saved"])
def test_every_form_gives_the_same_image(tmp_path: Path, form: str) -> None:
    files = (
        saved(LAYERS, "x:1", **SETTINGS)
        if form == "saved"
        else oci(LAYERS, compress=form != "plain layers", **SETTINGS)
    )
    path = tmp_path / "image"
    if form == "directory":
        write_directory(files, path)
    else:
        write_tar(files, path, compress=form == "tar.gz")
    image, layers = read(path)
    assert layers == 2
    assert image == Image(
        digest=CONFIG,
        manifest=image.manifest,
        variables={"PATH": "/opt/bin", "X": "a=b"},
        working_dir="/srv",
        user="me",
    )
    assert (image.manifest is None) == (form == "saved")
    assert read(path, wanted=CONFIG)[0] == image
    if image.manifest is not None:
        assert read(path, wanted=image.manifest)[0] == image


def merged(*images: Mapping[str, bytes]) -> dict[str, bytes]:
    """One layout with several images."""
    files = {name: data for each in images for name, data in each.items()}
    entries = [entry for each in images for entry in json.loads(each["index.json"])["manifests"]]
    files["index.json"] = json.dumps({"manifests": entries}).encode()
    return files


def test_one_of_several_images(tmp_path: Path) -> None:
    one, two = oci(LAYERS[:1], name="1"), oci(LAYERS, name="docker.io/library/x:2")
    other = oci([layer(("c", "4"))], machine="s390x", name="1")
    path = write_tar(merged(other, one, two), tmp_path / "a.tar")
    assert read(path, "x:1")[1] == 1
    assert read(path, "x:2")[1] == 2
    with pytest.raises(ImageError, match="no image called 'x:3'"):
        read(path, "x:3")
    with pytest.raises(ImageError, match="several such images"):
        read(write_tar(merged(oci(LAYERS[:1], name="1"), oci(LAYERS, name="1")), tmp_path / "b.tar"), "x:1")
    with pytest.raises(ImageError, match="no image for"):
        read(write_tar(other, tmp_path / "c.tar"))


def test_an_index_within_the_index(tmp_path: Path) -> None:
    files = oci(LAYERS)
    inner = files["index.json"]
    files["blobs/" + digest(inner).replace(":", "/")] = inner
    files["index.json"] = json.dumps({"manifests": [{"digest": digest(inner)}]}).encode()
    assert read(write_tar(files, tmp_path / "a.tar"))[1] == 2


def test_damage_is_found(tmp_path: Path) -> None:
    files = oci(LAYERS, compress=False)
    blob = "blobs/" + digest(LAYERS[1]).replace(":", "/")
    config = "blobs/" + digest(configuration(LAYERS, {})).replace(":", "/")
    for name, data, said in (
        (blob, files[blob].replace(b"3", b"4"), "not what its configuration says"),
        (config, files[config] + b" ", "not what its name says"),
        (blob, None, "lacks 'blobs/sha256/"),
        ("index.json", b"[]", "not what it should be"),
        ("index.json", b"{}", "'manifests' is missing"),
        ("index.json", b'{"manifests": [{"digest": "sha256:../../x"}]}', "other than sha256"),
    ):
        changed = {**files, name: data or b""}
        if data is None:
            del changed[name]
        with pytest.raises(ImageError, match=said):
            read(write_tar(changed, tmp_path / "a.tar"))
    packed = oci(LAYERS)
    largest = max((name for name in packed if name.startswith("blobs")), key=lambda name: len(packed[name]))
    with pytest.raises(ImageError, match="damaged"):
        read(write_tar({**packed, largest: packed[largest][:-9]}, tmp_path / "a.tar"))
    (tmp_path / "text").write_text("no archive")
    for path, said in ((tmp_path / "text", "no archive of an image"), (tmp_path / "none", "is not there")):
        with pytest.raises(ImageError, match=said):
            read(path)
    with pytest.raises(ImageError, match="neither an OCI image layout nor"):
        read(write_tar({"a": b""}, tmp_path / "a.tar"))
    with pytest.raises(ImageError, match="neither an OCI image layout nor"):
        read(write_directory({"manifest.json": b"{}"}, tmp_path / "dir"))


def test_names_in_a_saved_archive_stay_in_it(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(configuration([], {}))
    files = saved([], "x")
    files["manifest.json"] = json.dumps([{"Config": "../secret", "Layers": []}]).encode()
    with pytest.raises(ImageError, match="lacks"):
        read(write_directory(files, tmp_path / "a"))


# --- kept unpacked --------------------------------------------------------------------------------------------


def get(store: ImageStore, path: Path, mark: str = "m", wanted: str | None = None) -> Unpacked:
    return store.get(mark, "x", wanted, lambda _: contextlib.nullcontext(path))


def test_an_image_is_unpacked_once(tmp_path: Path) -> None:
    path = write_tar(oci(LAYERS, **SETTINGS), tmp_path / "a.tar")
    store = ImageStore(tmp_path / "images")
    first = get(store, path)
    assert (first.root / "etc/a").read_text() == "2"
    assert first.image.user == "me"
    path.unlink()
    assert get(store, path) == first  # by its mark alone
    again = write_tar(saved(LAYERS, "x", **SETTINGS), tmp_path / "b.tar")
    assert get(store, again, "n").root == first.root  # the same image in another archive
    assert sorted(os.listdir(tmp_path / "images")) == ["known", "lock", CONFIG.replace(":", "-")]
    with pytest.raises(ImageError, match="no image with digest"):
        get(store, again, "o", "sha256:" + "0" * 64)


def test_what_goes(tmp_path: Path) -> None:
    images = tmp_path / "images"
    store = ImageStore(images, limit=5)
    with pytest.raises(ImageError, match="more than"):
        get(store, write_tar(oci([layer(("a", "123456"))]), tmp_path / "a.tar"))
    assert os.listdir(images) == ["lock"]  # nothing is left of what failed
    (images / "tmp-1-left/root/etc").mkdir(parents=True)
    (images / "tmp-1-left/root/etc").chmod(0o500)
    old = images / ("sha256-" + "1" * 64)
    recent = images / ("sha256-" + "2" * 64)
    for place, days in ((old, 40), (recent, 20)):
        place.mkdir()
        os.utime(place, (time.time() - days * 86_400,) * 2)
    get(store, write_tar(oci(LAYERS), tmp_path / "b.tar"))
    assert not old.exists()
    assert recent.exists()
    assert not list(images.glob("tmp-*"))


def test_threads_and_processes_at_once(tmp_path: Path) -> None:
    path = write_tar(oci([layer(*((f"d/{n}", "x" * 100) for n in range(300)))]), tmp_path / "a.tar")
    code = (
        "import sys, contextlib; from pathlib import Path; from gitml.pipeline.imagestore import ImageStore\n"
        "a = Path(sys.argv[2])\n"
        "print(ImageStore(Path(sys.argv[1])).get('m', 'x', None, lambda _: contextlib.nullcontext(a)).root)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "images"), str(path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(get(ImageStore(tmp_path / "images"), path).root)) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    said = {process.communicate()[0].strip() for process in processes}
    assert said == {str(root) for root in found}
    assert len(found) == 3
    assert len(list(found[0].glob("d/*"))) == 300


def test_a_stop_while_another_unpacks(tmp_path: Path) -> None:
    path = write_tar(oci(LAYERS), tmp_path / "a.tar")
    with pytest.raises(ImageError, match="stopped"):
        get(ImageStore(tmp_path / "images", stopped=lambda: True), path)
    assert not list((tmp_path / "images").glob("tmp-*"))
    assert not list((tmp_path / "images").glob("sha256-*"))
