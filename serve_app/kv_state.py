"""Bytes of recurrent state that one layer keeps for one request on one device, for each family that has any.

A state does not grow with the tokens. Source: vllm/model_executor/layers/mamba/mamba_utils.py,
MambaStateShapeCalculator: the last inputs of a short convolution, and the state of the recurrence itself.
"""

from dataclasses import dataclass
from typing import Any

Config = dict[str, Any]


@dataclass(frozen=True)
class StateTypes:
    """How recurrent state is stored and shared out."""

    tensor_parallel: int
    conv_bytes: int  # of one element
    ssm_bytes: int


def _mamba_1(inner: int, state: int, kernel: int, types: StateTypes) -> int:
    channels = inner // types.tensor_parallel
    return channels * (kernel - 1) * types.conv_bytes + channels * state * types.ssm_bytes


def _mamba_2(inner: int, groups: int, state: int, kernel: int, types: StateTypes) -> int:
    ranks = types.tensor_parallel
    # Groups that do not divide among the devices are copied until they do.
    groups = groups if groups % ranks == 0 else ranks
    conv = (inner + 2 * groups * state) // ranks * (kernel - 1)
    return conv * types.conv_bytes + inner // ranks * state * types.ssm_bytes


def granite(config: Config, types: StateTypes) -> int:
    inner = config.get("mamba_d_ssm") or config["mamba_expand"] * config["hidden_size"]
    return _mamba_2(inner, config["mamba_n_groups"], config["mamba_d_state"], config["mamba_d_conv"], types)


def jamba(config: Config, types: StateTypes) -> int:
    inner = config["mamba_expand"] * config["hidden_size"]
    return _mamba_1(inner, config["mamba_d_state"], config["mamba_d_conv"], types)


def mamba(config: Config, types: StateTypes) -> int:
    inner = config.get("intermediate_size") or config["expand"] * config["hidden_size"]
    return _mamba_1(inner, config["state_size"], config["conv_kernel"], types)


def mamba2(config: Config, types: StateTypes) -> int:
    inner = config["expand"] * config["hidden_size"]
    return _mamba_2(inner, config["n_groups"], config["state_size"], config["conv_kernel"], types)


def nemotron(config: Config, types: StateTypes) -> int:
    inner = config["mamba_num_heads"] * config["mamba_head_dim"]
    return _mamba_2(inner, config["n_groups"], config["ssm_state_size"], config["conv_kernel"], types)


def zamba2(config: Config, types: StateTypes) -> int:
    inner = config["mamba_expand"] * config["hidden_size"]
    return _mamba_2(inner, config["mamba_ngroups"], config["mamba_d_state"], config["mamba_d_conv"], types)


def gated_delta_net(config: Config, types: StateTypes) -> int:
    keys = config["linear_num_key_heads"] * config["linear_key_head_dim"]
    values = config["linear_num_value_heads"] * config["linear_value_head_dim"]
    conv: int = (2 * keys + values) // types.tensor_parallel * (config["linear_conv_kernel_dim"] - 1)
    ssm: int = values // types.tensor_parallel * config["linear_key_head_dim"]
    return conv * types.conv_bytes + ssm * types.ssm_bytes


def lfm2(config: Config, types: StateTypes) -> int:
    conv: int = config["conv_dim"] // types.tensor_parallel * (config["conv_L_cache"] - 1)
    return conv * types.conv_bytes
