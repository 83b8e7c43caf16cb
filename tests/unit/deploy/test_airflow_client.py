"""The client of Airflow's interface: a run is started once, also when the answer is an error of the moment."""

from __future__ import annotations

import json

import httpx
import pytest

from deploy import airflow

SILENT = 0
"""In place of a state: no answer in time."""


def client(monkeypatch, answers: list[int]) -> tuple[airflow.Client, list[str]]:
    """A client whose server answers requests for runs with these states in turn; and the run ids it was asked for."""
    asked: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/auth/token":
            return httpx.Response(201, json={"access_token": "t"})
        run_id = json.loads(request.content)["dag_run_id"]
        asked.append(run_id)
        status = answers.pop(0)
        if status == SILENT:
            raise httpx.ReadTimeout("timed out", request=request)
        return httpx.Response(status, json={"dag_run_id": run_id} if status == 200 else {"detail": "busy"})

    monkeypatch.setattr(airflow, "PAUSES_S", (0.0, 0.0, 0.0))
    made = airflow.Client("http://airflow.invalid", "secret")
    made._http = httpx.Client(base_url="http://airflow.invalid", transport=httpx.MockTransport(handle))
    return made, asked


@pytest.mark.parametrize(
    "answers", [[200], [500, 200], [500, 503, 500, 200], [500, 409], [SILENT, 200], [SILENT, SILENT, SILENT, 409]]
)
def test_a_run_is_asked_for_again_under_the_same_id(monkeypatch, answers):
    made, asked = client(monkeypatch, list(answers))
    run_id = made.trigger("layers")
    assert len(asked) == len(answers)
    assert set(asked) == {run_id}


@pytest.mark.parametrize(("answers", "tries"), [([500] * 4, 4), ([404], 1), ([403], 1)])
def test_what_does_not_pass_is_an_error(monkeypatch, answers, tries):
    made, asked = client(monkeypatch, list(answers))
    with pytest.raises(RuntimeError, match=str(answers[0])):
        made.trigger("layers")
    assert len(asked) == tries


def test_a_server_that_stays_silent_is_named_with_what_to_do(monkeypatch):
    made, asked = client(monkeypatch, [SILENT] * 4)
    with pytest.raises(RuntimeError, match=r"连续 4 次.*dagRuns.*再运行同一条命令.*airflow-api\.log"):
        made.trigger("layers")
    assert len(set(asked)) == 1
    assert len(asked) == 4
