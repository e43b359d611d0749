"""Errors of libraries become messages with an exit code: a full disk, a tracking store that fails."""

import errno
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from safetensors import SafetensorError
from sqlalchemy.exc import OperationalError

from dml.core.errors import InputError, TrackingError, as_user_error
from dml.core.files import escape_formula
from pipelines.stage import stage

FULL = OSError(errno.ENOSPC, "No space left on device", "models/weights.safetensors")
SQLITE_FULL = OperationalError("insert", {}, Exception("database or disk is full"))
RUST_FULL = SafetensorError('Error while serializing: IoError(Os { code: 28, kind: StorageFull, message: "No space" })')


@pytest.mark.parametrize("error", [FULL, SQLITE_FULL, RUST_FULL, OSError(errno.EDQUOT, "Disk quota exceeded")])
def test_a_full_disk_is_recognised_wherever_it_is_noticed(error: Exception) -> None:
    known = as_user_error(error)
    assert known is not None
    assert known.exit_code == 1
    assert str(known).startswith("the disk is full")


@pytest.mark.parametrize("error", [MlflowException("gone"), OperationalError("select", {}, Exception("locked"))])
def test_a_failing_tracking_store_has_exit_code_6(error: Exception) -> None:
    known = as_user_error(error)
    assert isinstance(known, TrackingError)
    assert known.exit_code == 6
    assert "MLFLOW_TRACKING_URI" in str(known)


def test_user_errors_stay_and_faults_of_the_program_are_none() -> None:
    error = InputError("a.csv", "broken", "Mend it")
    assert as_user_error(error) is error
    assert as_user_error(ZeroDivisionError()) is None
    assert str(as_user_error(PermissionError(errno.EACCES, "Permission denied", "data"))).endswith("'data'")


@pytest.mark.parametrize(("error", "code"), [(FULL, 1), (MlflowException("gone"), 6), (InputError("a", "b", "c"), 2)])
def test_a_stage_ends_with_a_message_and_a_status(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    @stage
    def work() -> None:
        raise error

    assert work() == code
    assert "Traceback" not in capsys.readouterr().err


def test_a_fault_of_the_program_keeps_its_traceback() -> None:
    @stage
    def work() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()


def test_cells_that_a_spreadsheet_would_run_are_escaped() -> None:
    assert [escape_formula(cell) for cell in ("=A1", "+1", "-1", "@x", "\tx", "P-1", -1.5, None)] == [
        "'=A1", "'+1", "'-1", "'@x", "'\tx", "P-1", -1.5, None
    ]  # fmt: skip
