"""A real server process: equal answers to `dml predict`, limits with clear answers, bounded memory."""

import socket
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from dml.registry import predict as prediction
from tests.dml.serving.server_process import NAME, Server, ask, rows

Start = Callable[..., Server]


def test_answers_are_those_of_dml_predict_whoever_else_asks(server: Start, workplace_with_model: Path) -> None:
    served = server()
    expected = prediction.predict(f"{NAME}@challenger", workplace_with_model / "features").set_index("patient_id")
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda i: served.post(rows(f"s{i % 8}.npy")), range(64)))
    assert {status for status, _, _ in answers} == {200}
    for i, (_, _, content) in enumerate(answers):
        (row,) = content["predictions"]
        assert row["patient_id"] == f"s{i % 8}"
        assert row["risk"] == pytest.approx(expected.loc[f"s{i % 8}", "risk"], abs=1e-6)
    status, _, content = ask(urllib.request.Request(f"{served.address}/ping"))
    assert (status, content["model"]) == (200, f"{NAME}/1")


def test_layouts_parameters_and_refused_rows(server: Start) -> None:
    served = server()
    split = {"dataframe_split": {"columns": ["patient_id", "path"], "data": [["a", "s1.npy"], ["b", "gone.npy"]]}}
    status, _, content = served.post({**split, "params": {"attention": True}})
    good, bad = content["predictions"]
    assert (status, good["status"], bad["status"]) == (200, "ok", "refused")
    assert good["attention"].startswith("[{")
    assert bad["risk"] is None
    assert "not a file that this service reads" in bad["reason"]
    (outside,) = served.post(rows("../params.yaml"))[2]["predictions"]
    assert outside["reason"].replace("../params.yaml", "") == bad["reason"].replace("gone.npy", "")


@pytest.mark.parametrize(
    ("content", "kind", "status", "reason"),
    [
        (b"x" * (2**20 + 1), "application/json", 413, "larger than 1048576 bytes"),
        (rows(*["s1.npy"] * 5), "application/json", 413, "5 rows; at most 4 are taken"),
        (b"{", "application/json", 400, "Invalid JSON"),
        ({"dataframe_records": []}, "application/json", 400, "no row"),
        ({"dataframe_records": [{"path": "s1.npy"}]}, "application/json", 400, "dataframe_records.0.patient_id"),
        ({**rows("s1.npy"), "params": {"verbose": True}}, "application/json", 400, "params.verbose"),
        (b"patient_id,path\na,s1.npy\n", "text/csv", 415, "not application/json"),
    ],
)
def test_what_is_too_large_or_wrong_is_refused_with_a_reason(
    server_of_four: Server, content: object, kind: str, status: int, reason: str
) -> None:
    answered, _, said = server_of_four.post(content, kind)
    assert (answered, reason in said["error"]) == (status, True), said


@pytest.fixture
def server_of_four(server: Start) -> Server:
    return server("--rows", "4")


def test_a_full_queue_says_when_to_come_back(server: Start) -> None:
    served = server("--waiting", "1", "--batch-rows", "1", "--rows", "2000")
    slow = {"dataframe_records": [{"patient_id": f"p{i}", "path": f"s{i % 8}.npy"} for i in range(1500)]}
    with ThreadPoolExecutor(12) as clients:
        answers = list(clients.map(served.post, [slow] * 12))
    busy = [(headers, content) for status, headers, content in answers if status == 503]
    assert {status for status, _, _ in answers} == {200, 503}
    assert all(int(headers["Retry-After"]) >= 1 for headers, _ in busy)
    assert all("waiting already. Try again in" in content["error"] for _, content in busy)
    assert served.post(rows("s1.npy"))[0] == 200


def test_a_request_that_takes_too_long_is_answered_in_time(server: Start) -> None:
    served = server("--seconds", "0.1", "--rows", "4000")
    slow = {"dataframe_records": [{"patient_id": f"p{i}", "path": f"s{i % 8}.npy"} for i in range(3000)]}
    status, headers, content = served.post(slow)
    assert (status, int(headers["Retry-After"]) >= 1) == (503, True)
    assert "not answered within 0.1 s" in content["error"]


def test_a_body_without_end_is_refused_before_it_is_read(server: Start) -> None:
    served = server()
    host, port = urlsplit(served.address).hostname, urlsplit(served.address).port
    with socket.create_connection((host or "", port or 0), timeout=20) as connection:
        head = "POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        part = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        for _ in range(20):
            connection.sendall(part)
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")


def test_memory_stays_bounded_over_a_thousand_requests(server: Start) -> None:
    served = server()

    def predict(i: int) -> int:
        return served.post(rows(f"s{i % 8}.npy"))[0]

    with ThreadPoolExecutor(4) as clients:
        assert set(clients.map(predict, range(300))) == {200}
        before = served.memory_bytes()
        assert set(clients.map(predict, range(1000))) == {200}
    assert served.memory_bytes() - before < 16e6
