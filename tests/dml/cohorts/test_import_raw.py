from pathlib import Path

import pytest

from dml.cohorts.import_raw import import_cohort, use_cohort
from dml.config import params as config
from dml.core.errors import ConfigError, InputError

ROOT = Path(__file__).resolve().parents[3]
DESCRIPTION = """
name: mine
raw: {raw}
patients: [{{file: p.csv, id: id}}]
import: [a/p.csv, {{from: slides, to: images}}]
params:
  tasks: [grade]
  tiles: {{mpps: [0.5]}}
  evaluation: {{subgroups: {{old: {{grade: [high]}}}}}}
"""


@pytest.fixture
def cohorts(tmp_path: Path) -> Path:
    folder = tmp_path / "cohorts"
    folder.mkdir()
    (folder / "mine.yaml").write_text(DESCRIPTION.format(raw=tmp_path / "raw"))
    (folder / "bare.yaml").write_text("name: bare\npatients: [{file: p.csv, id: id}]\nparams: {tasks: [survival]}\n")
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "a").mkdir(parents=True)
    (folder / "slides" / "deep").mkdir(parents=True)
    (folder / "a" / "p.csv").write_text("id\nA\n")
    (folder / "slides" / "deep" / "1.tif").write_text("x")
    return folder


def test_files_and_folders_are_copied_once(tmp_path: Path, cohorts: Path, source: Path) -> None:
    written = import_cohort("mine", source, cohorts)
    assert written == [tmp_path / "raw/p.csv", tmp_path / "raw/images/deep/1.tif"]
    assert import_cohort("mine", source, cohorts) == []
    (source / "a" / "p.csv").write_text("id\nB\n")
    assert import_cohort("mine", source, cohorts) == [tmp_path / "raw/p.csv"]
    assert (tmp_path / "raw/p.csv").read_text() == "id\nB\n"


def test_nothing_is_copied_while_something_is_missing(tmp_path: Path, cohorts: Path, source: Path) -> None:
    (source / "slides" / "deep" / "1.tif").unlink()
    (source / "slides" / "deep").rmdir()
    (source / "slides").rmdir()
    with pytest.raises(InputError, match=r"source: not there: slides\. Fetch them, or correct `import`"):
        import_cohort("mine", source, cohorts)
    assert not (tmp_path / "raw").exists()


def test_a_failed_copy_leaves_no_half_file(tmp_path: Path, cohorts: Path, source: Path, monkeypatch) -> None:
    def full(origin: Path, target: Path) -> None:
        target.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dml.cohorts.import_raw.shutil.copyfile", full)
    with pytest.raises(InputError, match=r"cannot be copied to .*No space left on device.*Make room"):
        import_cohort("mine", source, cohorts)
    assert list((tmp_path / "raw").iterdir()) == []


def test_no_source_no_cohort_no_list(tmp_path: Path, cohorts: Path) -> None:
    with pytest.raises(InputError, match=r"the folder does not exist\. Give the folder .* as --source"):
        import_cohort("mine", tmp_path / "none", cohorts)
    with pytest.raises(ConfigError, match="described are: bare, mine"):
        import_cohort("yours", tmp_path, cohorts)
    with pytest.raises(ConfigError, match="import: lists no files"):
        import_cohort("bare", tmp_path, cohorts)


def test_files_from_elsewhere_need_to_be_told_where(cohorts: Path) -> None:
    with pytest.raises(ConfigError, match=r"mine\.yaml: import: name the folder of its 2 files with --source"):
        import_cohort("mine", None, cohorts)


def test_parts_that_were_not_built_are_named(tmp_path: Path, cohorts: Path) -> None:
    (cohorts / "both.yaml").write_text("name: both\ncombines: [mine, bare]\n")
    (tmp_path / "data/mine").mkdir(parents=True)
    (tmp_path / "data/mine/patients.parquet").write_text("x")
    absent = r"data/mine: not there: slides\.parquet, .*splits\.parquet, features/manifest\.parquet\. Build this cohort"
    with pytest.raises(InputError, match=absent + r" first: dml cohort use mine, dvc repro split"):
        import_cohort("both", None, cohorts, tmp_path / "data")


@pytest.fixture
def params(tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text())
    return path


def comments(path: Path) -> list[str]:
    return [line.split("#", 1)[1] for line in path.read_text().splitlines() if "#" in line]


def test_using_a_cohort_changes_what_it_says_and_nothing_else(params: Path, cohorts: Path) -> None:
    before, told = config.load(params), comments(params)
    diff = use_cohort("mine", params, cohorts)
    after = config.load(params)
    assert (after.cohort, after.tasks, after.tiles.mpps) == ("mine", ("grade",), (0.5,))
    assert after.evaluation.subgroups == {"old": {"grade": ("high",)}}
    assert after.tiles.max_tiles == before.tiles.max_tiles
    assert after.model == before.model
    assert comments(params) == told
    assert "+cohort: mine" in diff
    assert use_cohort("mine", params, cohorts) == ""


def test_the_next_cohort_does_not_inherit_what_the_last_one_set(params: Path, cohorts: Path) -> None:
    use_cohort("mine", params, cohorts)
    use_cohort("bare", params, cohorts)
    after = config.load(params)
    assert (after.cohort, after.tasks) == ("bare", ("survival",))
    assert after.tiles.mpps == config.Tiles().mpps
    assert after.evaluation.subgroups == {}


def test_overrides_that_params_does_not_know_change_nothing(params: Path, cohorts: Path) -> None:
    before = params.read_text()
    (cohorts / "bad.yaml").write_text("name: bad\npatients: [{file: p, id: i}]\nparams: {tiles: {mpp: [1]}}\n")
    with pytest.raises(ConfigError, match=r"with the params of .*bad\.yaml:\n  tiles\.mpp: unknown key; allowed here"):
        use_cohort("bad", params, cohorts)
    assert params.read_text() == before
