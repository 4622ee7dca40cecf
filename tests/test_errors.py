"""What only the user can mend is told from what only we can."""

import errno
import os
from pathlib import Path

import pytest
from hydra.errors import InstantiationException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from submitit.core.utils import UncompletedJobError

from diffusion_lab.errors import MENDABLE, UserError, user_error_in


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
