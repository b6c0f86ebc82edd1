"""Plots in `git ml diff`: the lines of both sides over each other."""

import json
import math
import re
import struct
import zlib
from base64 import b64encode
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from gitml.formats.pixels import NO_PILLOW, PixelDiff
from gitml.oid import Oid
from gitml.record import replace
from gitml.review.addresses import addresses
from gitml.review.comparison import Comparison, Picture, PictureChange, PlotChange, Side
from gitml.review.overlay import draw_overlay, plot_files
from gitml.review.report import report
from gitml.tables.series import Series, SeriesFile, read_series
from tests.end_to_end.project import Project, prepared

SVG = "{http://www.w3.org/2000/svg}"


def pipeline(*plots: dict[str, Any] | str) -> str:
    return json.dumps(
        {
            "pipeline": {"name": "model"},
            "transform": {"cmd": ["sh", "-c", "cp pfs/made/* pfs/out/"]},
            "input": {"pfs": {"repo": "made", "glob": "/"}},
            "plots": plots,
        }
    )


LOSS = {"path": "loss.csv", "x": "step", "y": ["train", "valid"], "title": "Loss"}


@prepared
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    project.git("init", "-q")
    project.write("pipeline.json", pipeline(LOSS, {"path": "rate.csv", "y": ["rate"]}))
    project.write("made/loss.csv", "step,train,valid\n0,1.0,1.2\n10,0.5,0.8\n20,0.25,0.7\n")
    project.write("made/rate.csv", "rate\n1\n2\n")
    commit(project, "one")
    project.write("made/loss.csv", "step,train,valid\n0,1.0,1.2\n10,0.4,0.6\n20,0.2,0.9\n30,,1.5\n")
    commit(project, "two")
    return project


def commit(project: Project, tag: str) -> None:
    project.git("add", "-A")
    project.git("commit", "-q", "-m", tag)
    project.ml("run")
    project.git("tag", tag)


def test_in_words(project: Project) -> None:
    assert project.ml("diff", "one..two", "--only", "plots").stdout.split("\n", 2)[2] == (
        """
Plot: Loss
  line           first  last  least  greatest
  train  before  1      0.25  0.25   1
  train  now     1      0.2   0.2    1
  valid  before  1.2    0.7   0.7    1.2
  valid  now     1.2    1.5   0.6    1.5
"""
    )
    assert "| `valid` | now | 1.2 | 1.5 | 0.6 | 1.5 |" in project.ml("diff", "one..two", "--md").stdout


def test_as_json(project: Project) -> None:
    (found,) = project.json("diff", "one..two")["plots"]
    assert (found["stage"], found["path"], found["title"], found["x"]) == ("model", "model/loss.csv", "Loss", "step")
    train = found["new"]["series"][0]
    assert train["points"] == [[0, 1], [10, 0.4], [20, 0.2], [30, None]]
    assert project.json("diff", "one..two", "--only", "metrics")["plots"] == []


def test_files(project: Project) -> None:
    done = project.ml("diff", "one..two", "--stat", "--plots", "out/plots")
    (path,) = (project.path / "out" / "plots").iterdir()
    assert path.name == "01-model-loss-csv.svg"
    assert "wrote out/plots/01-model-loss-csv.svg" in done.stderr
    first = path.read_bytes()
    lines = list(ElementTree.fromstring(first).iter(f"{SVG}polyline"))
    assert [each.findtext(f"{SVG}title") for each in lines] == [
        "train, before", "valid, before", "train, now", "valid, now",
    ]  # fmt: skip
    assert [each.get("stroke") for each in lines[:2]] == ["#8b949e"] * 2
    assert len({each.get("stroke") for each in lines}) == 3
    # both sides share one scale: the old train line ends above the new one
    ends = [float(str(each.get("points")).split()[2].split(",")[1]) for each in lines]
    assert ends[0] < ends[2]
    project.ml("diff", "one..two", "--plots", "out/plots")
    assert path.read_bytes() == first
    project.write("file", "")
    assert "cannot make the directory 'file'" in project.ml("diff", "one..two", "--plots", "file", check=False).stderr


def png(shade: int, size: int = 8) -> bytes:
    """A grey PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", size, size, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes([shade]) * size) * size)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.fixture
def pictures(project: Project) -> Project:
    project.ml("install")
    project.ml("track", "big.png")
    project.write("pipeline.json", pipeline("a b).png", "big.png"))
    for tag, shade in (("three", 10), ("four", 200)):
        project.write("made/a b).png", png(shade))
        project.write("made/big.png", png(shade) + bytes(70_000) + tag.encode())
        commit(project, tag)
    return project


def test_images_in_markdown_are_those_of_the_commits(pictures: Project) -> None:
    pictures.git("remote", "add", "origin", "https://user:secret@github.com/owner/name.git")
    old, new = pictures.head("three^0"), pictures.head("four^0")
    text = pictures.ml("diff", "three..four", "--only", "plots", "--md", GITHUB_ACTIONS="", GITEA_ACTIONS="").stdout
    path = "model/a%20b%29.png?raw=true"
    assert (
        f"| ![before](<https://github.com/owner/name/blob/{old}/{path}>) "
        f"| ![now](<https://github.com/owner/name/blob/{new}/{path}>) |"
    ) in text
    assert "secret" not in text
    # of a large file the forge has the pointer only
    found = {each["path"]: each for each in pictures.json("diff", "three..four")["images"]}
    assert pictures.git("cat-file", "-p", "four:model/big.png").startswith("gitml pointer 1")
    assert found["model/big.png"]["new"] == {
        "size": len(png(200)) + 70_004, "media": "image/png", "address": None, "problem": None,
    }  # fmt: skip
    assert found["model/big.png"]["difference"] == {
        "old_size": [8, 8], "new_size": [8, 8], "changed": 64, "share": 1.0, "largest": 190,
        "address": None, "problem": None,
    }  # fmt: skip
    assert pictures.json("diff", "four..four")["images"] == []


def test_plots_are_pushed_and_shown_by_their_commit(
    pictures: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GITHUB_ACTIONS", "GITEA_ACTIONS", "FORGEJO_ACTIONS", "GITLAB_CI", "BITBUCKET_BUILD_NUMBER"):
        monkeypatch.delenv(name, raising=False)
    server = tmp_path / "server.git"
    pictures.git("init", "-q", "--bare", str(server))
    pictures.write("pipeline.json", pipeline("a b).png", {"path": "loss.csv", "y": ["train"], "title": "[x](y) @all"}))
    pictures.write("made/loss.csv", "train\n2\n1\n")
    commit(pictures, "five")
    pictures.write("made/loss.csv", "train\n3\n1\n")
    pictures.write("made/a b).png", png(11))
    commit(pictures, "six")
    arguments = ("diff", "five..six", "--only", "plots", "--md")
    refused = pictures.ml(*arguments, "--push-plots", "pull-7", check=False)
    assert "'origin' is on no forge that is known" in refused.stderr
    pictures.git("remote", "add", "origin", "https://bitbucket.org/o/n.git")
    refused = pictures.ml(*arguments, "--push-plots", "pull-7", check=False)
    assert "does not show SVG" in refused.stderr
    pictures.git("remote", "set-url", "origin", "https://github.com/o/n.git")
    pictures.git("remote", "set-url", "--push", "origin", str(server / "gone"))
    refused = pictures.ml(*arguments, "--push-plots", "pull-7", check=False)
    assert "cannot push pictures to 'origin'" in refused.stderr
    assert "is no name of a ref" in pictures.ml(*arguments, "--push-plots", "a..b", check=False).stderr
    assert "--push-plots" in pictures.ml("diff", "five..six", "--push-plots", "a", check=False).stderr

    pictures.git("remote", "set-url", "--push", "origin", str(server))
    text = pictures.ml(*arguments, "--push-plots", "pull-7").stdout
    (line,) = pictures.git("ls-remote", str(server)).splitlines()
    pushed, name = line.split()
    assert name == "refs/gitml/pictures/pull-7"
    base = f"https://github.com/o/n/blob/{pushed}"
    assert (
        f"![\\[x\\](y) &#64;all, before and now](<{base}/01-model-loss-csv.svg?raw=true>)\n\n"
        "<details><summary>as a table</summary>\n\n| line |  | first | last | least | greatest |\n"
    ) in text
    assert "| `train` | now | 3 | 1 | 1 | 3 |\n\n</details>\n" in text
    assert f"| ![difference](<{base}/02-model-a-b-png-difference.png?raw=true>) |" in text
    assert "| before | now | difference |" in text
    files = pictures.git("--git-dir", str(server), "ls-tree", "-r", "--name-only", pushed).splitlines()
    assert files == ["01-model-loss-csv.svg", "02-model-a-b-png-difference.png"]
    svg = pictures.git("--git-dir", str(server), "cat-file", "-p", f"{pushed}:{files[0]}")
    assert {each.tag for each in ElementTree.fromstring(svg).iter()} >= {f"{SVG}polyline"}
    assert pictures.git("--git-dir", str(server), "fsck", "--strict", "--no-dangling") == ""
    found = pictures.json("diff", "five..six", "--only", "plots", "--push-plots", "pull-7")
    assert found["plots"][0]["address"] == f"{base}/01-model-loss-csv.svg?raw=true"
    assert found["images"][0]["difference"]["address"].startswith(base)
    # nothing is left here, and what is not asked for is as before
    assert "pictures" not in pictures.git("for-each-ref")
    again = pictures.ml(*arguments).stdout
    assert "| before | now |\n" in again
    assert "svg" not in again
    assert "as a table" not in again


def test_without_a_forge_there_are_words(pictures: Project) -> None:
    said = pictures.ml("diff", "three..four", "--only", "plots").stdout
    assert (
        f"Image: model/a b).png\n  before: PNG, {len(png(10))} B\n  now: PNG, {len(png(200))} B\n"
        "  100 % of the pixels changed (64 of 64), by at most 190 of 255\n"
    ) in said
    assert "![" not in pictures.ml("diff", "three..four", "--only", "plots", "--md").stdout


def test_images_on_the_page_and_as_files(pictures: Project) -> None:
    pictures.ml("diff", "three..four", "--html", "page.html", "--plots", "out")
    text = pictures.read("page.html")
    for shade in (10, 200):
        assert f'src="data:image/png;base64,{b64encode(png(shade)).decode()}"' in text
    assert re.findall("<figcaption>([a-z]+)</figcaption>", text) == ["before", "now", "difference"] * 2
    written = {each.name: each.read_bytes() for each in (pictures.path / "out").iterdir()}
    drawn = written["01-model-a-b-png-difference.png"]
    assert f'src="data:image/png;base64,{b64encode(drawn).decode()}"' in text
    assert written["01-model-a-b-png-before.png"] == png(10)
    assert written["01-model-a-b-png-now.png"] == png(200)
    assert len(written) == 6


SHAPE = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="{}" height="9"/></svg>'


def test_svg_is_an_image_like_others(project: Project) -> None:
    project.write("pipeline.json", pipeline("shape.svg", "other.SVG"))
    old, new = f"<?xml version='1.0'?>\n<!-- by hand -->\n{SHAPE.format(3)}", SHAPE.format(6)
    for tag, shape in (("three", old), ("four", new)):
        project.write("made/shape.svg", shape)
        project.write("made/other.SVG", f"<!DOCTYPE svg [<!ENTITY a 'aaa{tag}'>]>{shape}")
        commit(project, tag)
    said = project.ml("diff", "three..four", "--only", "plots").stdout
    assert f"Image: model/shape.svg\n  before: SVG, {len(old)} B\n  now: SVG, {len(new)} B\n" in said
    assert said.count("it is neither PNG, JPEG nor SVG") == 2, "what declares entities is not shown"
    assert "pixel" not in said
    project.ml("diff", "three..four", "--html", "page.html", "--plots", "out")
    text = project.read("page.html")
    for shape in (old, new):
        assert f'src="data:image/svg+xml;base64,{b64encode(shape.encode()).decode()}"' in text
    assert "difference</figcaption>" not in text
    assert list((project.path / "out").iterdir()) == []
    # Bitbucket shows none from a repository, as far as is known
    quiet = dict.fromkeys(("GITHUB_ACTIONS", "GITEA_ACTIONS", "GITLAB_CI", "BITBUCKET_BUILD_NUMBER"), "")
    for host, shown in (("github.com", True), ("bitbucket.org", False)):
        project.git("remote", "remove", "origin", check=False)
        project.git("remote", "add", "origin", f"https://{host}/o/n.git")
        command = ("git", "ml", "diff", "three..four", "--only", "plots", "--md")
        markdown = project.run(*command, extra=quiet).stdout
        assert (f"![now](<https://github.com/o/n/blob/{project.head('four')}/model/shape.svg" in markdown) == shown
        assert ("![" in markdown) == shown


def test_what_is_no_image_is_said(pictures: Project) -> None:
    pictures.write("made/a b).png", "<svg onload='alert(1)'/>")
    pictures.git("rm", "-q", "made/big.png")
    commit(pictures, "five")
    said = pictures.ml("diff", "four..five", "--only", "plots").stdout
    assert "now: it is neither PNG, JPEG nor SVG, 24 B\n" in said
    assert "now: it is not there\n" in said
    assert "pixel" not in said
    pictures.ml("diff", "four..five", "--html", "page.html")
    assert "onload" not in pictures.read("page.html")


def test_differences_in_words() -> None:
    def said(*differences: PixelDiff) -> list[list[str]]:
        picture = Picture(size=4, media="image/png", data=b"\x89PNG")
        changes = tuple(
            PictureChange(stage="model", path=b"a.png", old=picture, new=picture, difference=each)
            for each in differences
        )
        side = Side(name="a", commit=Oid(bytes(20)), subject="", when=0)
        found = report(Comparison(old=side, new=side, stages_total=1, pictures=changes), "git ml diff")
        return [[note.text for note in block.notes[2:]] for block in found.blocks if block.key == "plots"]

    missing = PixelDiff(problem=NO_PILLOW)
    # how to get Pillow is said once
    assert said(missing, missing, PixelDiff(problem="now: the image cannot be decoded")) == [
        ["differences of images are not drawn without Pillow: pip install 'gitml[data]'"],
        [],
        ["now: the image cannot be decoded"],
    ]
    assert said(PixelDiff(old_size=(4, 3), new_size=(4, 4))) == [
        ["4 × 3 pixels before, 4 × 4 now: no difference is drawn of two sizes"]
    ]
    few = PixelDiff(old_size=(100, 80), new_size=(100, 80), changed=1, largest=3, drawn=b"\x89PNG")
    assert said(few, replace(few, changed=0, largest=0, drawn=b"")) == [
        ["0.0125 % of the pixels changed (1 of 8,000), by at most 3 of 255"],
        ["no pixel changed"],
    ]


@pytest.mark.parametrize(
    ("remote", "kind", "address"),
    [
        ("git@github.com:o/n.git", None, "https://github.com/o/n/blob/c0/p%20%2B/x.png?raw=true"),
        (
            "ssh://git@gitlab.example.org:2222/a/b/c.git",
            None,
            "https://gitlab.example.org/a/b/c/-/raw/c0/p%20%2B/x.png",
        ),
        (
            "https://t:k@git.example.org:8443/o/n",
            "gitea",
            "https://git.example.org:8443/o/n/raw/commit/c0/p%20%2B/x.png",
        ),
        ("https://codeberg.org/o/n.git/", None, "https://codeberg.org/o/n/raw/commit/c0/p%20%2B/x.png"),
        ("http://localhost:3000/o/n", "gitea", "http://localhost:3000/o/n/raw/commit/c0/p%20%2B/x.png"),
        ("https://bitbucket.org/o/n.git", None, "https://bitbucket.org/o/n/raw/c0/p%20%2B/x.png"),
        ("https://git.example.org/o/n", None, None),
        ("/srv/git/n.git", "github", None),
        ("ml::s3://bucket/n", "github", None),
        ("https://github.com/o/n>)", None, None),
        ("https://github.com/only", None, None),
        ("https://[github.com/o/n", None, None),
        ("", "github", None),
    ],
)
def test_addresses(remote: str, kind: str | None, address: str | None) -> None:
    address_of = addresses(remote, kind)
    assert (None if address_of is None else address_of("c0", b"p +/x.png")) == address


def test_on_the_page(project: Project) -> None:
    project.ml("diff", "one..two", "--html", "page.html")
    text = project.read("page.html")
    assert text.count("<polyline") == 4
    assert '<section id="plots"' in text


def test_what_cannot_be_drawn_is_said(project: Project) -> None:
    tables = [each["path"] for each in project.json("diff", "one..two")["tables"]]
    assert "model/loss.csv" not in tables, "what is drawn is not shown row by row as well"
    project.write("made/loss.csv", "step,train\na,1\nb,2\n")
    project.git("rm", "-q", "made/rate.csv")
    commit(project, "three")
    said = project.ml("diff", "two..three", "--only", "plots").stdout
    assert "now: there is no column 'valid'\n" in said
    assert "now: column 'step' is no finite number everywhere: drawn by row\n" in said
    assert "now: it is not there\n" in said
    project.write("made/loss.csv", b"\0\1" * 20)
    commit(project, "four")
    assert "now: it is binary\n" in project.ml("diff", "two..four", "--only", "plots").stdout
    assert "model/loss.csv" in [each["path"] for each in project.json("diff", "two..four")["tables"]]


def test_many_rows_are_thinned_and_keep_their_peaks(tmp_path: Path) -> None:
    values = [math.sin(row / 500) for row in range(50_000)]
    values[12_345] = 99.0
    (tmp_path / "a.csv").write_text("y\n" + "".join(f"{value!r}\n" for value in values))
    found = read_series(tmp_path / "a.csv", "a.csv", None, ["y"])
    (series,) = found.series
    assert found.rows == 50_000
    assert len(series.points) <= 400
    assert (12_345.0, 99.0) in series.points
    assert (series.points[0], series.points[-1]) == ((0.0, values[0]), (49_999.0, values[-1]))
    assert (series.greatest, series.last) == (99.0, values[-1])
    assert SeriesFile.from_json(found.as_json()) == found


def test_hostile_names(tmp_path: Path) -> None:
    evil = "</svg><script>alert(1)</script>\x1b[31m"
    lines = SeriesFile(rows=2, series=(Series(name=evil, points=((0.0, -1.7e308), (1.0, 1.7e308))),))
    plot = PlotChange(stage=evil, path=b"../../\xff/x y", title=evil, x=evil, old=lines, new=lines)
    drawn = draw_overlay(plot)
    names = {each.tag for each in ElementTree.fromstring(drawn).iter()}
    assert names == {f"{SVG}{name}" for name in ("svg", "path", "text", "polyline", "title")}
    assert "\x1b" not in drawn
    assert "nan" not in drawn
    assert "inf" not in drawn
    assert [name for name, _ in plot_files([plot, plot], [])] == ["01-x-y.svg", "02-x-y.svg"]


def test_nothing_to_draw() -> None:
    plot = PlotChange(stage="a", path=b"a", title="a", x=None, old=None, new=SeriesFile(series=(Series(name="y"),)))
    assert "no finite number" in draw_overlay(plot)
    one = SeriesFile(rows=1, series=(Series(name="y", points=((0.0, 3.0),)),))
    assert draw_overlay(PlotChange(stage="a", path=b"a", title="a", x=None, old=None, new=one)).count("<circle") == 1
