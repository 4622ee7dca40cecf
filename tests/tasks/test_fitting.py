"""What every training shares."""

from types import SimpleNamespace

import pytest

from diffusion_lab.errors import Diverged, StoppedEarly, Terminated
from diffusion_lab.experiments.runs import Run
from diffusion_lab.tasks import fitting


@pytest.mark.parametrize(
    ("error", "told", "failed"),
    [
        (Diverged("after step 3"), ["alert run diverged: after step 3"], True),
        (Terminated(143), ["preempted"], True),
        (StoppedEarly("enough"), [], False),
        (KeyboardInterrupt(), [], True),
    ],
)
def test_loggers_hear_why_a_training_ended(tmp_path, monkeypatch, error, told, failed):
    heard = []

    def train(*_):
        raise error

    monkeypatch.setattr(fitting, "_train", train)
    monkeypatch.setattr(fitting, "start_of", lambda *_: None)
    monkeypatch.setattr(fitting, "_choices", lambda *_: {})
    monkeypatch.setattr(fitting, "build", lambda *_: lambda *_: "logger")
    monkeypatch.setattr(fitting.tracking, "metrics_csv", lambda *_: None)
    monkeypatch.setattr(fitting.tracking, "alert", lambda _, title, text: heard.append(f"alert {title}: {text}"))
    monkeypatch.setattr(fitting.tracking, "mark_preempted", lambda _: heard.append("preempted"))
    monkeypatch.setattr(fitting.tracking, "close", lambda loggers, failed: heard.append((loggers, failed)))
    setting = SimpleNamespace(config={"logger": {}}, run=Run(tmp_path / "run"))
    with pytest.raises(type(error)):
        fitting.fit(None, None, None, setting)
    assert heard == [*told, (["logger"], failed)]
