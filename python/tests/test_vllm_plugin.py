"""larder.vllm's entry point, over a stand-in of the parts of vLLM that it touches."""

import json
import sys
import types

import pytest

import larder
import larder.vllm
from larder.vllm import _plugin


class KVTransferConfig:
    def __init__(self, **given):
        self.__dict__.update(given)


class Stub:
    """vLLM with one configuration to make."""

    def __init__(self):
        self.refuses = lambda arguments: None
        self.is_gpu = True
        stub = self

        class EngineArgs:
            kv_transfer_config = None
            kv_offloading_size = None
            revision = None
            data_parallel_size = 1

            def create_engine_config(self, *arguments, **named):
                stub.refuses(self)
                return (self.kv_transfer_config, arguments, named)

        self.EngineArgs = EngineArgs

    def modules(self):
        platform = types.SimpleNamespace(
            is_cuda_alike=lambda: self.is_gpu, is_xpu=lambda: False, device_name="tpu"
        )
        contents = {
            "vllm": {},
            "vllm.engine": {},
            "vllm.engine.arg_utils": {"EngineArgs": self.EngineArgs},
            "vllm.config": {"KVTransferConfig": KVTransferConfig},
            "vllm.platforms": {"current_platform": platform},
        }
        for name, values in contents.items():
            module = types.ModuleType(name)
            module.__path__ = []
            module.__dict__.update(values)
            yield name, module


@pytest.fixture
def vllm(monkeypatch):
    stub = Stub()
    for name, module in stub.modules():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(_plugin, "_told", set())
    monkeypatch.setenv("LARDER", "memory:?capacity=1GiB")
    monkeypatch.delenv("LARDER_VLLM", raising=False)
    monkeypatch.setenv("_LARDER_VLLM_MADE", "")
    monkeypatch.setenv("LARDER_METRICS", "no address, which the check must not mind")
    return stub


def made(stub, **given):
    larder.vllm.register()
    arguments = stub.EngineArgs()
    arguments.__dict__.update(given)
    return arguments.create_engine_config("positional", headless=True)


def test_the_variable_fills_what_is_not_given(vllm, monkeypatch):
    monkeypatch.setenv(
        "LARDER_VLLM",
        json.dumps({"cpu_bytes_to_use": 5 << 20, "tier": {"load_timeout": 3}, "block_size": 64}),
    )
    config, arguments, named = made(vllm, revision="0e9e39f")
    assert (arguments, named) == (("positional",), {"headless": True})
    assert (config.kv_connector, config.kv_role) == ("OffloadingConnector", "kv_both")
    assert config.kv_connector_extra_config == {
        "spec_name": "TieringOffloadingSpec",
        "cpu_bytes_to_use": 5 << 20,
        "block_size": 64,
        "secondary_tiers": [
            {
                "type": "LarderTier",
                "module_path": "larder.vllm",
                "url": "memory:?capacity=1GiB",
                "revision": "0e9e39f",
                "load_timeout": 3,
            }
        ],
    }


def test_the_store_that_is_tried_is_the_one_that_the_tier_opens(vllm, monkeypatch, tmp_path):
    monkeypatch.setenv("LARDER", f"log:{tmp_path}/kv-{{dp_rank}}")
    monkeypatch.setenv("LARDER_VLLM", '{"tier": {"capacity": "512MiB", "max_value": "2MiB"}}')
    assert made(vllm)[0].kv_connector_extra_config["secondary_tiers"][0]["max_value"] == "2MiB"
    with larder.Client(f"log:{tmp_path}/kv-0") as client:
        assert client.report().capacity_bytes == 512 << 20


def test_a_process_that_makes_it_again_does_not_open_the_store(vllm, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("LARDER", f"log:{tmp_path}/kv?capacity=512MiB&max_value=1MiB")
    first, _, _ = made(vllm, revision="a")
    with larder.Client(f"log:{tmp_path}/kv"):  # The engine has it by now.
        again, _, _ = made(vllm, revision="a")
        assert again.kv_connector_extra_config == first.kv_connector_extra_config
        assert made(vllm, revision="b")[0] is None, "another configuration is tried"
    assert "in use" in caplog.text


def test_the_host_tier_has_a_size_that_fits_into_shared_memory(vllm, monkeypatch):
    config, _, _ = made(vllm)
    whole = config.kv_connector_extra_config["cpu_bytes_to_use"]
    assert whole >= 64 << 20
    config, _, _ = made(vllm, data_parallel_size=2)
    assert config.kv_connector_extra_config["cpu_bytes_to_use"] < whole
    small = types.SimpleNamespace(f_bavail=16384, f_frsize=4096)
    monkeypatch.setattr(_plugin.os, "statvfs", lambda path: small)
    assert made(vllm)[0] is None


@pytest.mark.parametrize(
    "given", [{"kv_transfer_config": "explicit"}, {"kv_offloading_size": 4.0}]
)
def test_an_explicit_configuration_wins(vllm, caplog, given):
    config, _, _ = made(vllm, **given)
    assert config == given.get("kv_transfer_config")
    assert not caplog.records


def test_without_the_variable_nothing_is_touched(vllm, monkeypatch):
    monkeypatch.setenv("LARDER", "")
    before = vllm.EngineArgs.create_engine_config
    assert made(vllm)[0] is None
    assert vllm.EngineArgs.create_engine_config is before


def test_two_calls_of_the_entry_point_change_vllm_once(vllm):
    larder.vllm.register()
    once = vllm.EngineArgs.create_engine_config
    larder.vllm.register()
    assert vllm.EngineArgs.create_engine_config is once


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"LARDER": "lgo:/data"}, "lgo"),
        ({"LARDER": "log:/proc/nowhere?capacity=1GiB"}, "/proc/nowhere"),
        ({"LARDER_VLLM": "["}, "LARDER_VLLM is no JSON"),
        ({"LARDER_VLLM": "[]"}, "LARDER_VLLM: wanted an object"),
        ({"LARDER_VLLM": '{"tier": 3}'}, "LARDER_VLLM: wanted an object"),
    ],
)
def test_a_wrong_variable_leaves_the_engine_as_it_is_and_is_told_once(
    vllm, monkeypatch, caplog, variables, reason
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for _ in range(2):
        assert made(vllm)[0] is None
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("vllm.larder", "WARNING")
    assert reason in record.getMessage()


def test_a_device_without_offloading_is_told_unless_the_user_has_a_spec_for_it(
    vllm, monkeypatch, caplog
):
    vllm.is_gpu = False
    assert made(vllm)[0] is None
    assert "no KV offloading on tpu" in caplog.text
    monkeypatch.setenv("LARDER_VLLM", '{"spec_name": "Own", "spec_module_path": "own"}')
    assert made(vllm)[0].kv_connector_extra_config["spec_name"] == "Own"


def test_what_vllm_refuses_with_offloading_it_gets_without(vllm, caplog):
    def refuse(arguments):
        if arguments.kv_transfer_config is not None:
            raise ValueError("not with this model")

    vllm.refuses = refuse
    assert made(vllm)[0] is None
    assert "vLLM refuses KV offloading here: not with this model" in caplog.text


def test_an_error_of_the_users_own_is_raised_as_ever(vllm, caplog):
    def refuse(arguments):
        raise ValueError("no such model")

    vllm.refuses = refuse
    with pytest.raises(ValueError, match="no such model"):
        made(vllm)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_a_vllm_that_has_changed_is_told(vllm, monkeypatch, caplog):
    monkeypatch.delattr(vllm.EngineArgs, "create_engine_config")
    larder.vllm.register()
    assert "has no EngineArgs.create_engine_config" in caplog.text
