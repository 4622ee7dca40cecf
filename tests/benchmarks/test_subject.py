import pytest

from diffusion_lab.benchmarks.subject import experiment, forward_flops, random_images, title

pytestmark = pytest.mark.usefixtures("within_benchmark")


def test_an_experiment_is_what_train_py_would_compose():
    config = experiment("experiment=reference", "loss=mse")
    assert config["choices"]["loss"] == "mse"
    assert config["network"]["_target_"].endswith("ReferenceUNet")
    assert title(config) == "reference_unet (3.56 M) at 64 px, batch 64"


def test_flops_of_the_reference_network():
    """1.87 GFLOP is what an independent count of the reference U-Net at 64 px gives."""
    assert forward_flops(experiment("experiment=reference")) / 1e9 == pytest.approx(1.87, abs=0.005)


def test_random_images_have_the_configs_shape(tmp_path):
    decoded = random_images(experiment(), tmp_path, train=5, held_out=2)
    assert decoded.images.shape == (7, 28, 28, 1)
    assert 100 < decoded.images.mean() < 155
    assert len(decoded.train) == 5
