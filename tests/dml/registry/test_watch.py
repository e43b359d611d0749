"""A watched folder: a slide is predicted when it is finished, once, whatever happens to the process."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dml.core.errors import InputError
from dml.registry.watch import FolderWatch

REFUSED = "refused"


def predict(rows: pd.DataFrame, params: dict[str, Any]) -> pd.DataFrame:
    """A model that refuses files without content."""
    path = Path(rows["path"].iloc[0])
    status = "ok" if path.stat().st_size else REFUSED
    return pd.DataFrame([{"patient_id": rows["patient_id"].iloc[0], "status": status, "reason": "", "risk": 0.5}])


def watching(tmp_path: Path, name: str = "out.parquet") -> FolderWatch:
    (tmp_path / "scans").mkdir(exist_ok=True)
    return FolderWatch(tmp_path / "scans", tmp_path / name, predict)


def write(tmp_path: Path, name: str, content: str = "pixels") -> Path:
    path = tmp_path / "scans" / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(content)
    return path


def names(rows: Any) -> list[str]:
    return [Path(row["file"]).name for row in rows]


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_a_slide_is_predicted_once_when_two_looks_see_it_unchanged(tmp_path: Path, name: str) -> None:
    watch = watching(tmp_path, name)
    assert names(watch.look()) == []
    slide = write(tmp_path, "TCGA-02-0001-01Z.svs")
    assert names(watch.look()) == []
    slide.write_text("more pixels")  # the scanner is still writing
    assert names(watch.look()) == []
    assert names(watch.look()) == ["TCGA-02-0001-01Z.svs"]
    assert names(watch.look()) == []
    write(tmp_path, "day/007.svs")
    assert names(watch.look()) + names(watch.look()) == ["007.svs"]
    rows = (
        pd.read_csv(tmp_path / name, dtype={"patient_id": str})
        if name.endswith("csv")
        else pd.read_parquet(tmp_path / name)
    )
    assert rows["patient_id"].tolist() == ["TCGA-02-0001", "007"]
    assert rows["risk"].tolist() == [0.5, 0.5]


def test_another_process_goes_on_where_the_first_was_killed(tmp_path: Path) -> None:
    write(tmp_path, "a.svs")
    first = watching(tmp_path)
    assert names(first.look()) + names(first.look()) == ["a.svs"]
    write(tmp_path, "b.svs")
    second = watching(tmp_path)
    assert names(second.look()) + names(second.look()) == ["b.svs"]


def test_a_process_killed_between_slides_loses_none_and_repeats_none(tmp_path: Path) -> None:
    """SIGKILL of a real process in the middle of its work."""
    for i in range(6):
        write(tmp_path, f"s{i}.svs")
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from tests.dml.registry.test_watch import watching\n"
        "watch = watching(Path(sys.argv[1])); list(watch.look())\n"
        "for i, row in enumerate(watch.look()):\n"
        "    if i == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    process = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=Path.cwd(), check=False)
    assert process.returncode == -9
    assert len(pd.read_parquet(tmp_path / "out.parquet")) == 3
    watch = watching(tmp_path)
    list(watch.look())
    assert len(names(watch.look())) == 3
    assert sorted(names(pd.read_parquet(tmp_path / "out.parquet").to_dict("records"))) == [
        f"s{i}.svs" for i in range(6)
    ]


def test_a_replaced_slide_is_predicted_again_and_a_refused_one_is_not_until_it_changes(tmp_path: Path) -> None:
    slide = write(tmp_path, "a.svs", "")
    watch = watching(tmp_path)
    list(watch.look())
    assert [row["status"] for row in watch.look()] == [REFUSED]
    assert names(watch.look()) == []
    slide.write_text("whole")
    list(watch.look())
    assert [row["status"] for row in watch.look()] == ["ok"]
    assert len(pd.read_parquet(tmp_path / "out.parquet")) == 2


def test_a_slide_that_vanishes_is_no_error(tmp_path: Path) -> None:
    slide = write(tmp_path, "a.svs")
    watch = watching(tmp_path)
    list(watch.look())
    os.remove(slide)
    assert names(watch.look()) == []


def test_what_cannot_be_watched_or_appended_to_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        FolderWatch(tmp_path / "absent", tmp_path / "out.csv", predict)
    with pytest.raises(InputError, match=r"Use \.csv or \.parquet"):
        watching(tmp_path, "out.json")
    (tmp_path / "out.csv").write_text("patient_id,risk\na,1\n")
    with pytest.raises(InputError, match="no column file"):
        list(watching(tmp_path, "out.csv").look())
