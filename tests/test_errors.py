"""What only the user can mend is told from what only we can."""

import errno
import json
import os
import re
from pathlib import Path

import pytest
import torch
from hydra.errors import InstantiationException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from submitit.core.utils import UncompletedJobError

from diffusion_lab.errors import MENDABLE, UserError, failure_of_own_code, user_error_in
from diffusion_lab.parts import build


@pytest.mark.parametrize("number", MENDABLE, ids=errno.errorcode.get)
def test_full_forbidden_and_misplaced_files_are_the_users(number):
    error = OSError(number, os.strerror(number), "/some/file")
    wrapped = RuntimeError("writing failed")
    wrapped.__context__ = error
    for raised in (error, wrapped):
        assert str(user_error_in(raised)) == f"/some/file: {os.strerror(number)}"


def test_a_place_where_no_folder_can_be_made_is_the_users():
    with pytest.raises(FileNotFoundError) as caught:
        Path("/proc/none/outputs").mkdir(parents=True)
    assert str(user_error_in(caught.value)) == "/proc/none: No such file or directory"


def test_what_hydra_wraps_is_found_and_defects_are_not():
    wrapped = InstantiationException("wrapped")
    wrapped.__cause__ = UserError("take another")
    assert str(user_error_in(wrapped)) == "take another"
    for defect in (ValueError("x"), KeyError("x"), FileNotFoundError(errno.ENOENT, "x"), ConnectionError("x")):
        assert user_error_in(defect) is None


def no_image():
    raise ValueError("no such\nimage")


@pytest.mark.parametrize(
    "through", [no_image, lambda: build({"_target_": f"{__name__}.no_image", "_partial_": True}, "x")()]
)
def test_what_fails_in_code_of_ones_own_is_named_with_its_place(through):
    with pytest.raises(ValueError, match="no such") as caught:
        through()
    said = str(failure_of_own_code(caught.value))
    assert re.fullmatch(r"no_image \(.*test_errors.py, line \d+\) fails: ValueError: no such image \(HYDRA_FULL.*\)", said)


def test_what_fails_in_ours_or_a_librarys_code_is_not_ones_own():
    for call in (lambda: json.loads("{"), lambda: build(5, "network"), lambda: torch.zeros(2).view(3)):
        try:
            call()
        except Exception as error:
            raised = error
        raised.__traceback__ = raised.__traceback__.tb_next.tb_next  # what this test has of its own
        assert failure_of_own_code(raised) is None


@pytest.mark.parametrize("value", ["${nosuch}", "${oc.env:NO_SUCH_VARIABLE_HERE}", "${nosuch:1}", "???"])
def test_a_setting_that_refers_to_nothing_is_one_line_that_names_it(value):
    with pytest.raises(OmegaConfBaseException) as caught:
        OmegaConf.to_container(OmegaConf.create({"metrics": {"samples": value}}), resolve=True, throw_on_missing=True)
    said = str(user_error_in(caught.value))
    assert "metrics.samples" in said
    assert "\n" not in said


def test_a_job_that_a_cluster_ended_is_a_line_that_says_where_its_last_words_are():
    text = (
        "Job 3_0 (task: 0) with path /runs/.submitit/3_0/3_0_0_result.pkl\nhas not produced any output (state: CANCELLED)\n"
    )
    said = str(user_error_in(UncompletedJobError(f"{text}Error stream produced:\n---\nsrun: error: vm: task 0: Killed")))
    assert said.startswith("submitted job 3_0 left no result (state CANCELLED): see /runs/.submitit/3_0/3_0_0_log.err; ")
    assert "Type the same command again" in str(user_error_in(UncompletedJobError("in other words")))
