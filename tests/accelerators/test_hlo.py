"""Counts of a small compiled program, written out by hand."""

from purerl.accelerators import hlo, work

MODULE = """HloModule jit_f, is_scheduled=true

%fused (p.0: f32[8,4], p.1: f32[4,2]) -> f32[8,2] {
  %p.0 = f32[8,4]{1,0} parameter(0)
  %p.1 = f32[4,2]{1,0} parameter(1)
  ROOT %dot.1 = f32[8,2]{1,0} dot(%p.0, %p.1), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%yes (p.2: f32[8,2]) -> f32[8,2] {
  %p.2 = f32[8,2]{1,0} parameter(0)
  %a.1 = f32[8,2]{1,0} add(%p.2, %p.2)
  ROOT %a.2 = f32[8,2]{1,0} add(%a.1, %p.2)
}

%no (p.3: f32[8,2]) -> f32[8,2] {
  ROOT %p.3 = f32[8,2]{1,0} parameter(0)
}

%body (c: (s32[], f32[8,4], f32[4,2])) -> (s32[], f32[8,4], f32[4,2]) {
  %c = (s32[], f32[8,4]{1,0}, f32[4,2]{1,0}) parameter(0)
  %g.0 = s32[] get-tuple-element(%c), index=0
  %g.1 = f32[8,4]{1,0} get-tuple-element(%c), index=1
  %g.2 = f32[4,2]{1,0} get-tuple-element(%c), index=2
  %f.1 = f32[8,2]{1,0} fusion(%g.1, %g.2), kind=kCustom, calls=%fused
  %flag = pred[] compare(%g.0, %g.0), direction=LT
  %cond = f32[8,2]{1,0} conditional(%flag, %f.1, %f.1), true_computation=%yes, false_computation=%no
  ROOT %t = (s32[], f32[8,4]{1,0}, f32[4,2]{1,0}) tuple(%g.0, %g.1, %g.2)
}

%test (d: (s32[], f32[8,4], f32[4,2])) -> pred[] {
  %limit = s32[] constant(5)
  %d = (s32[], f32[8,4]{1,0}, f32[4,2]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%d), index=0
  ROOT %lt = pred[] compare(%i, %limit), direction=LT
}

ENTRY %main (x: f32[8,4], w: f32[4,2]) -> f32[8,4] {
  %x = f32[8,4]{1,0} parameter(0)
  %w = f32[4,2]{1,0} parameter(1)
  %zero = s32[] constant(0)
  %copy.1 = f32[8,4]{1,0} copy(%x)
  %init = (s32[], f32[8,4]{1,0}, f32[4,2]{1,0}) tuple(%zero, %copy.1, %w)
  %loop = (s32[], f32[8,4]{1,0}, f32[4,2]{1,0}) while(%init), condition=%test, body=%body, metadata={op_name="jit(f)/while"}
  %out = f32[8,4]{1,0} get-tuple-element(%loop), index=1
  %sum = f32[8,4]{1,0} all-reduce(%out), to_apply=%no
  ROOT %end = f32[8,4]{1,0} bitcast(%sum)
}
"""  # noqa: E501


def test_launches_of_a_loop_count_once_per_trip():
    # A trip: the product, the comparison, the wider branch of the conditional. Outside: a copy, an all-reduce.
    assert hlo.read(MODULE).total.launches == 5 * (1 + 1 + 2) + 2


def test_a_conditional_on_the_device_is_a_wait_and_a_counted_loop_is_not():
    assert hlo.read(MODULE).total.waits == 5


def test_collectives_and_copies_are_told_apart():
    total = hlo.read(MODULE).total
    assert (total.copies, total.collectives) == (1, (("all-reduce", 1),))


def test_a_loop_whose_length_depends_on_data_has_no_trips():
    text = MODULE.replace("%limit = s32[] constant(5)", "%limit = s32[] get-tuple-element(%d), index=0")
    assert [loop.trips for loop in hlo.read(text).loops] == [None]


def test_a_partitioned_program_is_run_by_every_device():
    one, _ = work.totals(MODULE)
    assert work.operations(MODULE) == one > 0
    assert work.operations(MODULE.replace("is_scheduled=true", "is_scheduled=true, num_partitions=8", 1)) == 8 * one


def test_operations_are_those_of_the_products():
    operations, _ = work.totals(MODULE)
    assert operations == 5 * 2 * 8 * 4 * 2


def test_bytes_of_a_fusion_are_its_arguments_and_its_result():
    _, moved = work.totals(MODULE)
    product, comparison = (8 * 4 + 4 * 2 + 8 * 2) * 4, 1 + 4 + 4
    branch, outside = 2 * 3 * 8 * 2 * 4, 2 * 2 * 8 * 4 * 4
    assert moved == 5 * (product + comparison + branch) + outside


def test_a_trip_of_two_steps_counts_half_for_each():
    loop = hlo.Loop("jit(_rollout)/while", 4, hlo.Counts(launches=13, copies=1), ())
    program = hlo.Loop("program", 1, hlo.Counts(launches=3), (loop,))
    assert hlo.rollout_step(program, 8) == {"launches": 6.5, "waits": 0.0, "copies": 0.5}
    assert hlo.rollout_step(program, 4)["launches"] == 13
