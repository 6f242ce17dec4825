"""The oracles of attention against torch's own, and of rotary positions against complex numbers."""

import pytest
import torch

from .deep import close
from .linear import SIZES, Case, draw_case, random
from .oracles import attention


@pytest.fixture(params=SIZES, ids=str)
def drawn(request: pytest.FixtureRequest) -> Case:
    return draw_case(*request.param)


@pytest.mark.parametrize("window", [0, 1, 3])
def test_attention_is_masked_softmax(drawn, window):
    q, k, v, *_ = drawn
    T, pk, pv = len(q), random(2, k.shape[1]), random(2, v.shape[1])
    age = torch.arange(T)[:, None] - torch.arange(T)
    seen = (age >= 0) & (age < (window or T))
    sdpa = torch.nn.functional.scaled_dot_product_attention
    y, state = attention.softmax_attention(q, k, v, window)
    close(y, sdpa(q, k, v, attn_mask=seen))
    close(state["k"], k[seen[-1]])
    close(state["v"], v[seen[-1]])
    close(attention.softmax_attention(500 * q, k, v, window, 2.0)[0], sdpa(500 * q, k, v, attn_mask=seen, scale=2.0))
    seen = torch.cat([torch.ones(T, 2, dtype=torch.bool), seen], dim=1)
    wanted = sdpa(q, torch.cat([pk, k]), torch.cat([pv, v]), attn_mask=seen)
    close(attention.attention_with_persistent(q, k, v, pk, pv, window)[0], wanted)


def test_rope_is_a_turn_of_complex_numbers():
    torch.manual_seed(2)
    x, positions = random(5, 6), torch.tensor([0.0, 1.0, 7.0, 40.0, 1000.0], dtype=torch.float64)
    angles = positions[:, None] * torch.tensor([1.0, 100 ** (-1 / 3), 100 ** (-2 / 3)], dtype=torch.float64)
    turned = torch.complex(x[:, :3], x[:, 3:]) * torch.polar(torch.ones_like(angles), angles)
    close(attention.rope(x, positions, base=100.0), torch.cat([turned.real, turned.imag], dim=1))
