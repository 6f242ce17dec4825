"""One statement that teaches several memories, worked by hand. Every memory is one number.

Without `self` the objective names the memories and is one joint objective; with `self`, or in the short form, each
memory has its own copy. Either way all gradients are taken at the same old state, then the writes follow."""

from fractions import Fraction as F

from reference.worked import close, inputs_of, interpreter, put, weights_after

PAIR = """
block Pair over k: [1], v: [1], beta: [1] -> [1] {
  memory A = matrix(1)
  memory B = matrix(1)
  learn A, B minimizing l2(B(A(k)), v) WEIGHTED by gd(beta) every token
  return B(A(ones(1)))
}"""
PORTS = {"k": [[1], [2]], "v": [[1], [1]], "beta": [[F(1, 4)], [F(1, 2)]]}


def test_joint_objective() -> None:
    # y = k a b;  e = y - v;  gradient of a: k b e,  of b: k a e, both at the old a and b.
    # start a = 1, b = 2
    # 0: y = 2, e = 1;             grads 2, 1;        a = 1 - 1/2 = 1/2;            b = 2 - 1/4 = 7/4
    #    (with the new a for b: k a e would be 1/2 and b 15/8)
    # 1: y = 7/4, e = 3/4;         grads 21/8, 3/4;   a = 1/2 - 21/16 = -13/16;     b = 7/4 - 3/8 = 11/8
    machine = interpreter(PAIR.replace("WEIGHTED", ""), "Pair")
    put(machine, A__w=[[1]], B__w=[[2]])
    outs, _ = machine.run(inputs_of(PORTS))
    close(outs[0][0], [[F(7, 8)], [F(-143, 128)]])  # a b
    for ticks, (a, b) in enumerate([(F(1, 2), F(7, 4)), (F(-13, 16), F(11, 8))], start=1):
        after = weights_after(machine, PORTS, ticks)
        close(after["A.w"], [[a]])
        close(after["B.w"], [[b]])


def test_one_weight_for_each_learned_name() -> None:
    # 0: grads 2, 1 as above, times 1/2 and 2: 1, 2;    a = 1 - 1/4 = 3/4;   b = 2 - 2/4 = 3/2
    # 1: y = 2 * 9/8 = 9/4, e = 5/4; grads 2 * 3/2 * 5/4 = 15/4, 2 * 3/4 * 5/4 = 15/8; weighted 15/8, 15/4;
    #                                                   a = 3/4 - 15/16 = -3/16;  b = 3/2 - 15/8 = -3/8
    machine = interpreter(PAIR.replace("WEIGHTED", "weighted [1 / 2, 2]"), "Pair")
    put(machine, A__w=[[1]], B__w=[[2]])
    outs, _ = machine.run(inputs_of(PORTS))
    close(outs[0][0], [[F(9, 8)], [F(9, 128)]])


def test_gated_pair_of_three_memories() -> None:
    """LaCT's shape with the non-linearity left out: B(A(k) * C(k)), three memories of one objective."""
    text = """
    block Three over k: [1], v: [1], beta: [1] -> [1] {
      memory A = matrix(1)
      memory B = matrix(1)
      memory C = matrix(1)
      learn A, B, C minimizing l2(B(A(k) * C(k)), v) by gd(beta) every token
      return B(A(ones(1)) * C(ones(1)))
    }"""
    # y = k^2 a b c;  gradients of a: k^2 b c e,  b: k^2 a c e,  c: k^2 a b e
    # start 1, 2, 1
    # 0: y = 2, e = 1;    grads 2, 1, 2;    a = 1 - 2/4 = 1/2,  b = 2 - 1/4 = 7/4,  c = 1/2
    # 1: y = 4 * 7/16 = 7/4, e = 3/4; grads 4 * 7/8 * 3/4 = 21/8, 4 * 1/4 * 3/4 = 3/4, 21/8;
    #                     a = 1/2 - 21/16 = -13/16,  b = 7/4 - 3/8 = 11/8,  c = -13/16
    machine = interpreter(text, "Three")
    put(machine, A__w=[[1]], B__w=[[2]], C__w=[[1]])
    outs, _ = machine.run(inputs_of(PORTS))
    close(outs[0][0], [[F(7, 16)], [F(169, 256) * F(11, 8)]])


def test_one_learned_name_in_a_composition() -> None:
    """A memory that the statement does not teach is passed through and stays as it is."""
    text = """
    block Through over k: [1], v: [1], beta: [1] -> [1] {
      memory A = matrix(1)
      memory B = matrix(1)
      learn A minimizing l2(B(self(k)), v) by gd(beta) every token
      return A(ones(1))
    }"""
    # b = 2 throughout; gradient of a: k b (k a b - v)
    # 0: 2 (2 - 1) = 2;                  a = 1 - 1/2 = 1/2
    # 1: 2 * 2 (2 * 1/2 * 2 - 1) = 4;    a = 1/2 - 2 = -3/2
    machine = interpreter(text, "Through")
    put(machine, A__w=[[1]], B__w=[[2]])
    outs, _ = machine.run(inputs_of(PORTS))
    close(outs[0][0], [[F(1, 2)], [F(-3, 2)]])


def test_self_gives_each_memory_its_own_copy() -> None:
    text = """
    block Own over k: [1], v: [1], beta: [1] -> [1], [1] {
      memory A = matrix(1)
      memory B = matrix(1)
      learn A, B : k -> v minimizing l2 by gd(beta) every token
      return A(ones(1)), B(ones(1))
    }"""
    # w <- w - beta k (k w - v), for each alone
    # a: 1 - 1/4 (1 - 1) = 1;      1 - 1/2 * 2 (2 - 1) = 0
    # b: 2 - 1/4 (2 - 1) = 7/4;    7/4 - 1/2 * 2 (7/2 - 1) = -3/4
    machine = interpreter(text, "Own")
    put(machine, A__w=[[1]], B__w=[[2]])
    (a, b), _ = machine.run(inputs_of(PORTS))
    close(a[0], [[1], [0]])
    close(b[0], [[F(7, 4)], [F(-3, 4)]])


def test_all_gradients_come_before_the_writes() -> None:
    """Each target is read from the other memory: both see the old one."""
    text = """
    block Swap over k: [1], beta: [1] -> [1], [1] {
      memory A = matrix(1)
      memory B = matrix(1)
      learn A, B minimizing l2(self(k), data(A(k) + B(k))) by gd(beta) every token
      return A(ones(1)), B(ones(1))
    }"""
    # each w <- w - beta k^2 (w - (a + b)) at the old a, b:   a <- a + beta k^2 b,  b <- b + beta k^2 a
    # 0: beta k^2 = 1/4:  a = 1 + 2/4 = 3/2;          b = 2 + 1/4 = 9/4
    # 1: beta k^2 = 2:    a = 3/2 + 9/2 = 6;          b = 9/4 + 3 = 21/4
    machine = interpreter(text, "Swap")
    put(machine, A__w=[[1]], B__w=[[2]])
    (a, b), _ = machine.run(inputs_of({"k": PORTS["k"], "beta": PORTS["beta"]}))
    close(a[0], [[F(3, 2)], [6]])
    close(b[0], [[F(9, 4)], [F(21, 4)]])


def test_several_learns_of_one_memory_write_in_text_order() -> None:
    text = """
    block Order over k: [1], v: [1], beta: [1] -> [1] {
      memory M = matrix(1) from zeros
      learn M : k -> v minimizing l2 by gd(beta) every token
      learn M : ones(1) -> 3 * v minimizing l2 by gd(1 / 2) every token
      return M(ones(1))
    }"""
    ports = {"k": [[1], [2]], "v": [[2], [1]], "beta": [[F(1, 2)], [F(1, 8)]]}
    # 0: 0 - 1/2 (0 - 2) = 1;                   then 1 - 1/2 (1 - 6) = 7/2
    # 1: 7/2 - 1/8 * 2 (7 - 1) = 2;             then 2 - 1/2 (2 - 3) = 5/2
    machine = interpreter(text, "Order")
    outs, _ = machine.run(inputs_of(ports))
    close(outs[0][0], [[F(7, 2)], [F(5, 2)]])
