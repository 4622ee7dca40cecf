"""What a user of dashboard.py sees without an account, with one, and when W&B is away. A server here stands in for W&B."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.typed import one_line_error, type_command

KEY = "0123456789" * 4


class StandIn(ThreadingHTTPServer):
    """Keeps every GraphQL question, and answers as W&B would an account without projects; or with `status`, an error."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.questions, self.status = [], 200

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def views(self) -> dict[str, dict]:
        """What was saved, by its type."""
        sent = [question["variables"] for question in self.questions if "upsertView" in question["query"]]
        return {view["type"]: view for view in sent}


class Answer(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = {}
        if self.path == "/graphql":
            question = json.loads(body)
            self.server.questions.append(question)
            answer = self.answer_to(question.get("variables") or {})
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def answer_to(self, variables: dict) -> dict:
        if self.server.status != 200:
            return {"errors": [{"message": "permission denied"}]}
        project = {"id": "p", "name": "diffusion-lab", "entityName": "someone"}
        return {
            "data": {
                "viewer": {"id": "u", "entity": "someone", "username": "someone", "flags": "{}", "teams": {"edges": []}},
                "models": {"edges": [], "pageInfo": {"endCursor": None, "hasNextPage": False}},
                "upsertModel": {"project": project, "model": project, "inserted": True},
                "upsertView": {"view": {**variables, "id": "VmlldzoxMjM=", "project": project}},
            }
        }

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path, tmp_path_factory, monkeypatch):
    """The stand-in, with nobody logged in and an empty home."""
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path_factory.mktemp("matplotlib")))  # whose fonts are listed at the first use
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    for variable in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_ENTITY", "NETRC", "WANDB_CONFIG_DIR"):
        monkeypatch.delenv(variable, raising=False)
    with StandIn() as stand_in:
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        monkeypatch.setenv("WANDB_BASE_URL", stand_in.address)
        threading.Thread(target=stand_in.serve_forever, daemon=True).start()
        yield stand_in
        stand_in.shutdown()


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_without_an_account_the_specification_is_written(server, tmp_path):
    result = type_command(tmp_path / "work", "dashboard", "name=2024", "entity=team")
    assert result.returncode == 0, result.stderr
    assert "wandb login" in result.stdout
    assert "make sync" in result.stdout
    (file,) = files(tmp_path)  # and none in the home
    assert str(file.relative_to(tmp_path / "work")) in result.stdout
    specified = json.loads(file.read_text())
    assert specified["workspace"]["displayName"] == specified["report"]["displayName"] == "Comparison of 2024"
    assert specified["workspace"]["entity"] == specified["report"]["project"]["entityName"] == "team"
    assert server.questions == []


def test_with_an_account_both_are_saved(server, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    result = type_command(tmp_path / "work", "dashboard", "name=comparison")
    assert result.returncode == 0, result.stderr
    workspace, report = server.views()["project-view"], server.views()["runs"]
    for view in (workspace, report):
        assert (view["entityName"], view["projectName"]) == ("someone", "diffusion-lab")  # the account's default entity
        assert view["displayName"] == "Comparison of comparison"
    assert len(json.loads(workspace["spec"])["section"]["panelBankConfig"]["sections"]) == 4
    assert len(json.loads(report["spec"])["blocks"]) == 15
    first, second = result.stdout.splitlines()
    assert first.startswith(f"workspace  {server.address}/someone/diffusion-lab?nw=")
    assert second.startswith(f"report     {server.address}/someone/diffusion-lab/reports/")
    assert files(tmp_path / "work") == []


def test_a_refused_key_gets_one_line(server, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    server.status = 401
    message = one_line_error(type_command(tmp_path / "work", "dashboard"))
    assert "permission denied; log in again" in message
    assert list((tmp_path / "work").iterdir()) == []


def test_an_unreachable_server_gets_one_line_and_soon(server, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    began = time.perf_counter()
    message = one_line_error(type_command(tmp_path / "work", "dashboard"))
    assert time.perf_counter() - began < 30
    assert "W&B does not answer" in message
    assert "http://127.0.0.1:9" in message
    assert list((tmp_path / "work").iterdir()) == []


def test_a_project_is_needed(server, tmp_path):
    assert "project is not set" in one_line_error(type_command(tmp_path / "work", "dashboard", "project="))
