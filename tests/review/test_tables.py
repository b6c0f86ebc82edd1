"""Tables in `git ml diff`."""

from pathlib import Path

from tests.end_to_end.project import Project, prepared


@prepared
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    project.git("init", "-q")
    project.ml("install")
    project.ml("track", "big.csv")
    project.write("small.csv", "id,colour,size\n1,red,1.5\n2,green,2.5\n3,red,3.5\n")
    project.write("big.csv", "id,value\n" + "".join(f"{row},{row * 7 % 1000}\n" for row in range(20_000)))
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "one")
    project.write("small.csv", "id,colour,size,extra\n1,red,1.5,a\n2,blue,2.5,b\n4,red,4.5,c\n")
    lines = project.read("big.csv").splitlines()
    lines[500] = "499,5"
    project.write("big.csv", "\n".join([*lines, "20000,1", ""]))
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "two")
    return project


def test_rows_columns_and_categories(project: Project) -> None:
    assert project.git("cat-file", "-p", "HEAD:big.csv").startswith("gitml pointer 1")
    found = {each["path"]: each["diff"] for each in project.json("diff", "HEAD~1..HEAD")["tables"]}
    (small,), (big,) = found["small.csv"]["tables"], found["big.csv"]["tables"]
    assert (small["key"], small["added"], small["removed"], small["changed"]) == (["id"], 1, 1, 1)
    columns = {each["name"]: each for each in small["columns"]}
    assert columns["extra"]["old"] is None
    assert columns["colour"]["changed"] == 1
    assert columns["colour"]["appeared"]["frequent"] == [["blue", 1]]
    assert (big["rows"], big["added"], big["removed"], big["changed"]) == ([20000, 20001], 1, 0, 1)
    said = project.ml("diff", "HEAD~1..HEAD").stdout
    assert "Table: big.csv" in said
    assert "20,000 → 20,001 rows: 1 added, 1 changed" in said
    assert "new: blue; gone: green" in said
    assert "- id=3, colour=red, size=3.5" in said
    assert "+ id=4, colour=red, size=4.5, extra=c" in said


def test_a_key_and_masks(project: Project) -> None:
    done = project.json("diff", "HEAD~1..HEAD", "--key", "colour", "--mask", "si*")
    (small,) = next(each["diff"]["tables"] for each in done["tables"] if each["path"] == "small.csv")
    assert small["key"] == ["colour"]
    said = project.ml("diff", "HEAD~1..HEAD", "--mask", "size").stdout
    assert "size=***" in said
    assert "size=3.5" not in said


def test_only_tables(project: Project) -> None:
    said = project.ml("diff", "HEAD~1..HEAD", "--only", "tables", "--md").stdout
    assert "### Table: small.csv" in said
    assert "Files" not in said
    assert project.json("diff", "HEAD~1..HEAD", "--only", "metrics")["tables"] == []


def test_what_is_no_table_is_opaque(project: Project) -> None:
    project.write("small.csv", b"\0\1\2" * 100)
    project.git("commit", "-q", "-am", "three")
    (found,) = project.json("diff", "HEAD~1..HEAD")["tables"]
    assert found["diff"]["opaque"] != "" or found["diff"]["tables"][0]["opaque"] != ""
    assert "opaque: " in project.ml("diff", "HEAD~1..HEAD").stdout
