"""The examples of the language, as its design shows them; the last is a piece of a body, given one."""

EXAMPLES = (
    r'''
"""Self-modifying Titans (Nested Learning, sec. 8.1, eqs 83-93): every projection is itself a memory,
and every memory writes the targets it learns from. Gates start near "keep everything, learn slowly"."""
block SelfModifyingTitans(dim, heads = 4, chunk = 16) over x: [dim] -> [dim] {
  d = dim / heads
  memory K[heads], V[heads], M[heads] = residual_mlp(d)
  memory Eta[heads], Alpha[heads]     = residual_mlp(d) |> linear(1)

  h     = x |> conv(4) |> split(heads)
  q     = x |> linear(dim) |> split(heads) |> unit
  k     = K(h) |> unit
  v     = V(h)
  eta   = softplus(Eta(h) - 4)
  alpha = sigmoid(Alpha(h) + 6)
  y     = M(q)

  learn K, V, Eta, Alpha, M : k -> self(v)
    minimizing l2
    retaining erase(alpha, eta)
    by gd(eta)
    every token
    hold state for chunk tokens

  return y |> merge |> linear(dim)
}

"""Continuum memory system (sec. 7.1, eqs 70-71): a chain of MLPs, each at its own pace."""
block CMS(dim, periods = [512, 2048, 8192], lr = 0.01) over x: [dim] -> [dim] {
  for p in periods {
    memory F = mlp(dim, expand = 4)
    x = x + F(rmsnorm(x))
    learn F minimizing loss by gd(lr) every p tokens detached
  }
  return x
}

model Hope(vocab = 256, dim = 512, depth = 12, heads = 8, periods = [512, 2048, 8192]) over ids: int {
  x = ids |> embed(vocab, dim)
  repeat depth {
    x = x + (x |> rmsnorm |> SelfModifyingTitans(dim, heads))
    x = x |> CMS(dim, periods)
  }
  logits = x |> rmsnorm |> linear(vocab)
  loss   = cross_entropy(logits, next(ids))
  learn * minimizing loss by adamw(4e-4, decay = 0.1) every step
  return logits
}
''',
    r'''
"""Momentum, with the rate inside, so that rates may be streams (Titans' S_t)."""
optimizer momentum(lr, beta = 0.9) over g {
  state s = 0
  s <- beta * s - lr * g
  return s
}

"""Deep momentum (eq 50): the momentum is a small network that learns from gradients, row by row."""
optimizer deep_momentum(lr, keep = 0.9, rate = 1e-3) over g: [n, m] {
  memory b = residual_mlp(m)
  learn b : g -> 1 minimizing dot retaining decay(keep) by gd(rate) every update
  return -lr * b(g)
}

"""Multi-scale momentum Muon (Algorithm 1): two momenta at two paces; the slow one is seen one update later."""
optimizer m3(lr, b1 = 0.9, b2 = 0.999, b3 = 0.9, alpha = 1, slow_every = 100, eps = 1e-8) over g {
  state fast = 0
  state slow = 0
  state v = 0
  fast <- fast + b1 * g
  v    <- v + b2 * g^2
  u = -lr * (orthogonal(fast) + alpha * orthogonal(slow)) / (sqrt(v) + eps)
  slow <- slow + b3 * window_sum(g)  every slow_every updates
  return u
}

objective l2 over y, t = 0.5 * sum((y - t)^2)
retention decay(keep) over w, u = keep * w + u
retention erase(keep, rate) over w, u, key = keep * w - rate * outer(key, key @ w) + u
net mlp(d, expand = 4, out = d) over x: [d] -> [out] {
  param up:   [d, expand * d]   = normal(d ^ -0.5)
  param down: [expand * d, out] = zeros
  return gelu(x @ up) @ down
}
''',
    r"""
block Recent(heads) over q, k, v {
  memory A[heads] = attention(window = 2048)   # keeps the pairs themselves (Nadaraya-Watson)
  learn A : rope(k) -> v every token
  y = A(rope(q))
  return y
}
""",
)
