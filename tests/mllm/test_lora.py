from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from pathasst.core.errors import BadSettings
from pathasst.mllm import lora


def test_equal_to_peft(tiny_llm):
    torch.manual_seed(0)
    ours = AutoModelForCausalLM.from_pretrained(tiny_llm).model
    theirs = AutoModelForCausalLM.from_pretrained(tiny_llm).model
    modules = ["q_proj", "down_proj"]
    assert lora.attach(ours, 4, 8, modules) == 4
    peft = get_peft_model(theirs, LoraConfig(r=4, lora_alpha=8, target_modules=modules))
    for name, parameter in ours.named_parameters():
        if name.endswith("lora_B"):
            parameter.data.normal_(std=0.1)
    state = {f"base_model.model.{n.replace('.weight', '.default.weight')}": t for n, t in lora.state(ours).items()}
    assert not peft.load_state_dict(state, strict=False).unexpected_keys
    ids = torch.randint(5, 300, (2, 9))
    with torch.no_grad():
        a, b = ours(ids).last_hidden_state, peft(ids).last_hidden_state
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_four_bits_stay_near_and_only_adapters_learn(tiny_llm):
    pytest.importorskip("bitsandbytes", reason="the extra qlora is not installed")
    model = AutoModelForCausalLM.from_pretrained(tiny_llm).model
    ids = torch.randint(5, 300, (2, 9))
    with torch.no_grad():
        before = model(ids).last_hidden_state
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    assert lora.attach(model, 4, 8, ["q_proj", "down_proj"], bits=4) == 4
    weight = model.layers[0].self_attn.q_proj.base.weight
    assert weight.dtype == torch.uint8
    assert weight.numel() * 2 == model.config.hidden_size**2  # two values a byte
    after = model(ids).last_hidden_state
    apart = float((after - before).detach().norm() / before.norm())
    assert 0 < apart < 0.3
    after.square().sum().backward()
    assert {n for n, p in model.named_parameters() if p.grad is not None} == {
        n.removesuffix(".weight") for n in lora.state(model)
    }


def test_starts_as_the_plain_model_and_stored_adapters_are_added(tiny_llm):
    model = AutoModelForCausalLM.from_pretrained(tiny_llm).model
    plain = AutoModelForCausalLM.from_pretrained(tiny_llm).model
    ids = torch.randint(5, 300, (1, 9))
    with torch.no_grad():
        before = model(ids).last_hidden_state
        lora.attach(model, 2, 4, ["v_proj"])
        torch.testing.assert_close(model(ids).last_hidden_state, before)
        for name, parameter in model.named_parameters():
            if name.endswith("lora_B"):
                parameter.normal_(std=0.1)
        lora.add_state(plain, lora.state(model), scale=2.0)
        torch.testing.assert_close(plain(ids).last_hidden_state, model(ids).last_hidden_state, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("modules", [["foo"], ["q_proj", "qkv_proj"]])
def test_adapters_that_match_nothing_are_an_error(tiny_llm, modules):
    with pytest.raises(BadSettings, match=f"is called {modules[-1]}; it has down_proj, gate_proj"):
        lora.attach(AutoModelForCausalLM.from_pretrained(tiny_llm).model, 4, 8, modules)
