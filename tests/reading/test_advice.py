import bz2
import gzip
import io
import lzma
import random
import struct
import tarfile
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from gitml.reading.advice import MOST_FILES, advise, examine
from gitml.reading.parquet import ParquetError, is_chunked_by_content
from gitml.reading.view import View
from tests.end_to_end.project import Project
from tests.reading.conftest import Store, noise

TEXT = b"".join(b"%d,%d\n" % (number, number * number % 9973) for number in range(20_000))


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def number(field: int, value: int, *, kind: int = 6) -> bytes:
    """A field of a Thrift struct, with its id in full."""
    return bytes([kind]) + varint(field << 1) + varint(value << 1)


def text(field: int, value: bytes) -> bytes:
    return bytes([8]) + varint(field << 1) + varint(len(value)) + value


def inner(field: int, value: bytes) -> bytes:
    return bytes([12]) + varint(field << 1) + value + b"\0"


def listed(field: int, values: list[bytes]) -> bytes:
    return bytes([9]) + varint(field << 1) + bytes([len(values) << 4 | 12]) + b"".join(v + b"\0" for v in values)


def parquet_file(
    counts: list[int], *, writer: bytes = b"parquet-cpp-arrow version 23.0.0", physical: int = 2, nested: bool = False
) -> bytes:
    """A Parquet file with one column, whose data pages hold so many values; the pages themselves are noise."""
    pages = b""
    for page in counts:
        body = noise(50)
        pages += number(1, 0, kind=5) + number(3, len(body), kind=5) + inner(5, number(1, page, kind=5)) + b"\0" + body
    rows = sum(counts)
    column = number(1, physical, kind=5) + number(5, rows * (1 + nested)) + number(7, len(pages)) + number(9, 4)
    group = listed(1, [inner(3, column)]) + number(3, rows)
    footer = listed(4, [group]) + text(6, writer) + b"\0"
    return b"PAR1" + pages + footer + struct.pack("<I", len(footer)) + b"PAR1"


def chunked(content: bytes) -> bool | None:
    return is_chunked_by_content(io.BytesIO(content))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (parquet_file([20_000, 20_000, 3082, 20_000, 20_000, 20_000, 9], physical=2), True),
        (parquet_file([20_000] * 8), False),
        (parquet_file([20_000, 20_000, 11_264, 20_000, 20_000, 20_000, 20_000, 77]), False),
        (parquet_file([131_072, 131_072, 5]), False),
        # the odd page is where the data ends
        (parquet_file([20_000, 3082]), None),
        # too few bytes for a cut
        (parquet_file([20_000] * 4), None),
        (parquet_file([20_000] * 12, physical=4), None),
        (parquet_file([20_000] * 15, physical=4), False),
        # strings and nested values do not tell
        (parquet_file([20_000, 3082, 20_000, 9], physical=6), None),
        (parquet_file([20_000, 3082, 20_000, 9], nested=True), None),
        (parquet_file([20_000, 3082, 20_000, 9], writer=b"parquet-cpp-arrow version 20.0.0"), False),
        (parquet_file([20_000, 3082, 20_000, 9], writer=b"parquet-mr version 1.13.1"), False),
        (parquet_file([20_000, 3082, 20_000, 9], writer=b"parquet-rs version 58.0.0"), True),
        (parquet_file([10]), None),
    ],
)
def test_how_a_parquet_file_was_cut(content: bytes, expected: bool | None) -> None:
    assert chunked(content) is expected


def test_real_parquet_files(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    writer = pytest.importorskip("pyarrow.parquet")
    rng = random.Random(1)
    values = pyarrow.table({"a": [rng.random() for _ in range(300_000)], "b": [str(n) for n in range(300_000)]})
    for by_content in (True, False):
        for version in ("1.0", "2.0"):
            where = tmp_path / "x.parquet"
            writer.write_table(values, where, use_content_defined_chunking=by_content, data_page_version=version)
            with where.open("rb") as file:
                assert is_chunked_by_content(file) is by_content


def test_any_bytes_are_survived() -> None:
    good = parquet_file([20_000] * 8)
    rng = random.Random(5)
    for _ in range(1500):
        bad = bytearray(good)
        for _ in range(rng.randrange(1, 6)):
            bad[rng.randrange(len(bad))] = rng.randrange(256)
        damaged = bytes(bad[: rng.choice([len(bad), rng.randrange(len(bad))])])
        with suppress(ParquetError):
            assert chunked(damaged) in (True, False, None)
        examine(io.BytesIO(damaged))
    deep = b"\xfc" * 5000
    with pytest.raises(ParquetError):
        chunked(b"PAR1" + deep + struct.pack("<I", len(deep)) + b"PAR1")


def zipped(members: dict[str, bytes], method: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def tarred(mode: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        info = tarfile.TarInfo("x")
        info.size = len(TEXT)
        archive.addfile(info, io.BytesIO(TEXT))
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (gzip.compress(TEXT), "compressed with gzip"),
        (tarred("w:gz"), "compressed with gzip"),
        (bz2.compress(TEXT), "compressed with bzip2"),
        (lzma.compress(TEXT), "compressed with xz"),
        (b"\x28\xb5\x2f\xfd" + noise(1000), "compressed with zstd"),
        (zipped({"a": TEXT, "b": TEXT}, zipfile.ZIP_DEFLATED), "2 of 2 members compressed"),
        (zipped({"a.npy": TEXT}, zipfile.ZIP_DEFLATED), "compressed NumPy archive"),
        (parquet_file([20_000] * 8), "without content-defined chunking"),
    ],
)
def test_what_is_in_the_way(content: bytes, words: str) -> None:
    found = examine(io.BytesIO(content))
    assert found is not None
    assert words in found[0]
    assert found[1]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        TEXT,
        noise(1000),
        tarred("w"),
        zipped({"model/data.pkl": TEXT, "model/data/0": noise(5000)}, zipfile.ZIP_STORED),  # torch.save, numpy.savez
        b"PK\x03\x04" + noise(500),
        b"PAR1" + noise(500),
        parquet_file([20_000, 20_000, 3082, 20_000, 9]),
        parquet_file([10]),
    ],
)
def test_nothing_is_in_the_way(content: bytes) -> None:
    assert examine(io.BytesIO(content)) is None


def test_the_largest_files_are_looked_at(store: Store) -> None:
    big = gzip.compress(noise(400_000), 0)
    files = {b"data/%03d" % each: gzip.compress(b"%d" % each) for each in range(MOST_FILES + 5)}
    store.commit({**files, b"data/z.csv": TEXT, b"data/big.bin": big, b"data/new\xff\n": big})
    with View.open(store.path, fetch=False) as view:
        sizes = [(path.decode("utf-8", "surrogateescape"), 30) for path in files]
        sizes += [("data/big.bin", len(big)), ("data/new\udcff\n", len(big)), ("data/z.csv", 10), ("data/gone", 10**9)]
        found = list(advise(view, sizes))
    assert [advice.path for advice in found[:2]] == ["data/big.bin", "data/new\udcff\n"]
    assert len(found) == MOST_FILES - 1


def test_the_doctor_tells(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    project.path.mkdir()
    project.git("init", "-q")
    project.ml("install", "--no-fetch")
    project.ml("track", "data/**")
    project.write("data/table.csv.gz", gzip.compress(noise(200_000, 2)))
    project.write("data/new\x1b.bin", gzip.compress(noise(200_000, 3)))
    project.write("data/good", noise(200_000, 4))
    project.commit("archives", wait=False)
    lines = project.ml("doctor", check=False).stdout.splitlines()
    at = lines.index("· 'data/table.csv.gz': compressed with gzip: after a change all that follows is other bytes")
    assert "track what is in it instead" in lines[at + 1]
    assert sum("compressed with gzip" in line for line in lines) == 2
    assert not any("data/good" in line for line in lines)
    assert "\x1b" not in "".join(lines)
