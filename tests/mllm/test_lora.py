from __future__ import annotations

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

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
        assert lora.merge(ours) == 4
        torch.testing.assert_close(ours(ids).last_hidden_state, b, atol=1e-5, rtol=1e-5)


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
