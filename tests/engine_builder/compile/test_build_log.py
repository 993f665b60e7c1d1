"""Progress from lines; the wording is that of logs in public threads."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llmjp_builder.compile.build_log import BuildLog
from llmjp_builder.compile.compile_progress import CompileProgress
from llmjp_builder.contracts.spec import Progress, Step

STAMP = "[10/12/2024-15:46:23] [TRT-LLM] [I] "
RANK = (
    f"{STAMP}Total time of constructing network from module object 2.79 seconds",
    f"{STAMP}Build TensorRT engine Unnamed Network 0",
    "[10/12/2024-15:46:16] [TRT] [I] Engine generation completed in 15.4544 seconds.",
    f"{STAMP}Total time of building Unnamed Network 0: 00:00:22",
    f"{STAMP}Build phase peak memory: 40294.03 MB, children: 16.96 MB",
    f"{STAMP}Serializing engine to /out/rank0.engine...",
    f"{STAMP}Engine serialized. Total time: 00:00:19",
)
END = f"{STAMP}Total time of building all engines: 00:00:47"


def test_one_rank() -> None:
    log = BuildLog(1)
    fractions = [(log.read(line), round(log.fraction, 2))[1] for line in (*RANK, END)]
    assert fractions == [0, 0.15, 0.15, 0.6, 0.6, 0.6, 1, 1]


def test_the_end_of_all_is_no_rank() -> None:
    log = BuildLog(2)
    assert not log.read(END)
    assert log.fraction == 0


def test_eta_is_unknown_until_a_rank_is_compiled() -> None:
    log = BuildLog(2)
    log.read(RANK[1])
    assert log.estimate_seconds_left(100) is None
    for line in RANK[2:]:
        log.read(line)
    assert log.estimate_seconds_left(100) == 100


def test_a_timing_cache_counts_when_it_is_written() -> None:
    log = BuildLog(1)
    assert not log.timing_cache_written
    assert log.read(f"{STAMP}Timing cache serialized to timing.cache")
    assert log.timing_cache_written


@given(st.lists(st.sampled_from([*RANK, END, "", "anything"])), st.integers(1, 8))
def test_it_never_goes_back_or_beyond_the_end(lines: list[str], world: int) -> None:
    log, before = BuildLog(world), 0.0
    for line in lines:
        log.read(line)
        assert before <= log.fraction <= 1
        before = log.fraction
        assert log.message


def test_progress_values() -> None:
    values: list[Progress] = []
    progress = CompileProgress(1, values.append, "1 ranks, 1 GPUs")
    for line in RANK[:5]:
        progress.read_line(line)
    progress.tick(0.5)
    progress.tick(10.0)
    progress.tick(10.5)
    progress.finish()
    assert [value.percent for value in values] == [0, 15, 60, 60, 100]
    assert [value.step for value in values] == [Step.COMPILE] * 5
    assert values[-2].eta_seconds == 6.7
    assert values[-1].eta_seconds == 0
    assert values[0].message == "loading weights for 1 engines (1 ranks, 1 GPUs)"
