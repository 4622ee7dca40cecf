from diffusion_lab.experiments.hashes import config_hash

CONFIG = {"name": "a", "epochs": 2, "logger": {"mode": "offline"}, "data": {"root": None, "cache_dir": "x"}}


def test_hash_sees_the_experiment_and_not_how_it_is_watched():
    assert config_hash({**CONFIG, "epochs": 3}) != config_hash(CONFIG)
    assert config_hash({**CONFIG, "name": "b", "logger": {"mode": "online"}}) == config_hash(CONFIG)
    assert config_hash({**CONFIG, "data": {"root": None, "cache_dir": "elsewhere"}}) == config_hash(CONFIG)
    assert config_hash({**CONFIG, "data": {"root": "/other", "cache_dir": "x"}}) != config_hash(CONFIG)


def test_all_held_out_images_are_validated_on_as_before_there_was_a_cap():
    data = {**CONFIG["data"], "held_out_images": None}
    assert config_hash({**CONFIG, "data": data}) == config_hash(CONFIG)
    assert config_hash({**CONFIG, "data": {**data, "held_out_images": 5000}}) != config_hash(CONFIG)
