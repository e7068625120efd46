"""Every rule of the risk engine in one table: threshold, tier, what it needs, and where it comes from. Pure.

Thresholds are from guidelines and papers, or are named as this project's own choice. A source is cited for its
threshold or definition alone: it deliberately never lends an outcome to a finding, since one lead without symptoms,
age or medication can't support one. A heart rate is judged without knowing whether somebody runs or sleeps, so only
its extremes go beyond ``ELEVATED``.

Invariants:
    1. Each rule has a tier, a source, and what it needs; no rule has a threshold that is not a constant here.
    2. ``docs/risk-rules.md`` holds ``risk_statements.rules_markdown()`` word for word; a test compares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from einthoven import risk_sources as sources
from einthoven.results import RiskTier

AF_EPISODE_MIN_MS: Final = 30_000
"""Shortest stretch of a single-lead ECG on which AF may be diagnosed."""
AF_BRIDGE_MAX_MS: Final = 60_000
"""Inconclusive or missing time that an AF episode may span at a stretch; it is never counted as AF."""
RUN_MIN_BEATS: Final = 3
"""Ectopic beats in a row that are a run."""
RUN_MIN_BPM: Final = 100
"""A run is fast when ``RUN_MIN_BEATS`` of its beats in a row are faster than so many a minute."""
RUN_SUSTAINED_MS: Final = 30_000
"""A run of so long is sustained."""
S_RUN_LONG_BEATS: Final = 20
"""Supraventricular beats of a long run."""
PATTERN_MIN_ECTOPIC: Final = 3
"""Single ectopic beats, evenly spaced, of a bigeminy or trigeminy."""
CLASS_MIN_PERMILLE: Final = 800
"""Probability (1/1000) of its class that each ectopic beat of a couplet, run or pattern must have to carry a tier."""
PVC_BURDEN_PERMILLE: Final = 100
"""Ventricular beats in 1000 that are many."""
PAC_PER_HOUR: Final = 30
"""Supraventricular ectopic beats of an hour that are many."""
BURDEN_MIN_BEATS: Final = 1_000
"""Judged beats a burden rests on at least: at 10 % the 95 % interval is then 2 points wide on either side."""
ECTOPY_MIN_BEATS: Final = 20
"""Judged beats below which no share of them is told."""
AF_BURDEN_MIN_MS: Final = 600_000
"""Conclusive time that the AF burden of a worst hour or day rests on at least."""
PAUSE_NOTED_MS: Final = 2_000
PAUSE_LONG_MS: Final = 3_000
PAUSE_VERY_LONG_MS: Final = 6_000
PAUSE_BELIEVED_MS: Final = 30_000
"""A longer stretch without a beat is more likely an electrode that came off than a heart that came back."""
RATE_SPAN_MS: Final = 30_000
"""A heart rate is sustained when the mean over so long is so high or low."""
RR_MIN_MS: Final = 150
"""A shorter interval (400 a minute) is no heart's; nothing is measured across it."""
TACHYCARDIA_BPM: Final = 100
FAST_TACHYCARDIA_BPM: Final = 130
EXTREME_TACHYCARDIA_BPM: Final = 200
BRADYCARDIA_BPM: Final = 50
SLOW_BRADYCARDIA_BPM: Final = 40
EXTREME_BRADYCARDIA_BPM: Final = 30


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table.

    Attributes:
        name: Stable name.
        tier: The tier it gives.
        finding: What it finds, in words, with its threshold.
        needs: What it must rest on; without it the rule is silent.
        source: Where threshold or definition come from.
    """

    name: str
    tier: RiskTier
    finding: str
    needs: str
    source: str


_WINDOW = "a conclusive window"
_CERTAIN = f"beats in usable seconds without a gap between them, each at least {CLASS_MIN_PERMILLE // 10} % certain"
_UNSURE = "beats in usable seconds without a gap between them"
_RATE = f"{RATE_SPAN_MS // 1000} s of intervals in usable seconds without a gap"
_PAUSE = "beats before and after it, and only usable seconds between them"
_RUN = f"{RUN_MIN_BEATS} or more ventricular beats in a row"
_ATRIAL_RUN = f"{RUN_MIN_BEATS} or more supraventricular ectopic beats in a row, over {RUN_MIN_BPM}/min"
_NO_CONTEXT = "; whether at rest is not known"
_EVEN = f"{PATTERN_MIN_ECTOPIC} or more in a row"

_URGENT, _ELEVATED, _ROUTINE = RiskTier.URGENT, RiskTier.ELEVATED, RiskTier.ROUTINE

VT_SUSTAINED: Final = Rule(
    "vt_sustained",
    _URGENT,
    f"ventricular tachycardia for {RUN_SUSTAINED_MS // 1000} s or more",
    _CERTAIN,
    sources.VA_GUIDELINE,
)
VT_RUN: Final = Rule(
    "vt_run",
    _URGENT,
    f"run of ventricular tachycardia: {_RUN} over {RUN_MIN_BPM}/min",
    _CERTAIN,
    f"{sources.VA_GUIDELINE}; listed among major findings by {sources.SYNCOPE_GUIDELINE}, Table 6",
)
PAUSE_VERY_LONG: Final = Rule(
    "pause_6s",
    _URGENT,
    f"pause: no beat found for {PAUSE_VERY_LONG_MS // 1000} s or more",
    f"{_PAUSE}; up to {PAUSE_BELIEVED_MS // 1000} s",
    sources.PACING_GUIDELINE,
)
EXTREME_TACHYCARDIA: Final = Rule(
    "tachycardia_extreme",
    _URGENT,
    f"heart rate over {EXTREME_TACHYCARDIA_BPM}/min, faster than the maximal sinus rate predicted for any adult",
    _RATE,
    sources.MAXIMAL_RATE,
)
EXTREME_BRADYCARDIA: Final = Rule(
    "bradycardia_extreme",
    _URGENT,
    f"heart rate under {EXTREME_BRADYCARDIA_BPM}/min",
    _RATE,
    f"{sources.ATHLETES} even in them",
)
VT_UNCERTAIN: Final = Rule(
    "vt_uncertain",
    _ELEVATED,
    f"perhaps a run of ventricular tachycardia: {_RUN} over {RUN_MIN_BPM}/min, not all of them certain",
    _UNSURE,
    f"as vt_run; under {CLASS_MIN_PERMILLE // 10} % is this project's choice",
)
IDIOVENTRICULAR: Final = Rule(
    "idioventricular_run",
    _ELEVATED,
    f"slow ventricular run: {_RUN}, {RUN_MIN_BPM}/min or less",
    _CERTAIN,
    sources.VA_GUIDELINE,
)
V_COUPLET: Final = Rule(
    "v_couplet", _ELEVATED, "ventricular couplet: two ventricular beats in a row", _CERTAIN, sources.ATHLETES
)
V_BIGEMINY: Final = Rule(
    "v_bigeminy",
    _ELEVATED,
    f"ventricular bigeminy: every second beat ventricular, {_EVEN}",
    _CERTAIN,
    f"{sources.ATHLETES} (two or more ventricular beats in 10 s)",
)
V_TRIGEMINY: Final = Rule(
    "v_trigeminy",
    _ELEVATED,
    f"ventricular trigeminy: every third beat ventricular, {_EVEN}",
    _CERTAIN,
    f"{sources.ATHLETES} (two or more ventricular beats in 10 s)",
)
PVC_BURDEN: Final = Rule(
    "pvc_burden",
    _ELEVATED,
    f"ventricular beats are {PVC_BURDEN_PERMILLE // 10} % or more of those within 24 h",
    f"{BURDEN_MIN_BEATS} judged beats within 24 h",
    sources.PVC_GUIDELINE,
)
SVT_SUSTAINED: Final = Rule(
    "svt_sustained",
    _ELEVATED,
    f"supraventricular tachycardia for {RUN_SUSTAINED_MS // 1000} s or more: {_ATRIAL_RUN}",
    _CERTAIN,
    f"{sources.SVT_GUIDELINE}; 30 s as for ventricular tachycardia",
)
S_RUN_LONG: Final = Rule(
    "s_run_long", _ELEVATED, f"supraventricular run of {S_RUN_LONG_BEATS} beats or more", _CERTAIN, sources.BINICI
)
PAC_FREQUENT: Final = Rule(
    "pac_frequent",
    _ELEVATED,
    f"{PAC_PER_HOUR} or more supraventricular ectopic beats within an hour",
    f"beats in usable seconds, each at least {CLASS_MIN_PERMILLE // 10} % certain",
    f"{sources.BINICI} (as a mean over 48 h)",
)
PAUSE_LONG: Final = Rule(
    "pause_3s",
    _ELEVATED,
    f"pause: no beat found for {PAUSE_LONG_MS // 1000} s or more, under {PAUSE_VERY_LONG_MS // 1000} s",
    _PAUSE,
    f"{sources.BRADY_GUIDELINE}; {sources.ATHLETES}",
)
FAST_TACHYCARDIA: Final = Rule(
    "tachycardia_fast",
    _ELEVATED,
    f"heart rate over {FAST_TACHYCARDIA_BPM}/min{_NO_CONTEXT}",
    _RATE,
    f"{sources.NEWS2} (131/min and more scores 3)",
)
SLOW_BRADYCARDIA: Final = Rule(
    "bradycardia_slow",
    _ELEVATED,
    f"heart rate under {SLOW_BRADYCARDIA_BPM}/min{_NO_CONTEXT}",
    _RATE,
    f"{sources.SYNCOPE_GUIDELINE}, Table 6 (while awake)",
)
AF_EPISODE: Final = Rule(
    "af_episode",
    _ELEVATED,
    f"atrial fibrillation for at least {AF_EPISODE_MIN_MS // 1000} s",
    f"windows read as AF that follow each other; at most {AF_BRIDGE_MAX_MS // 1000} s unread between them",
    sources.AF_GUIDELINE,
)
AF_SHORT: Final = Rule(
    "af_short",
    _ELEVATED,
    f"a rhythm like atrial fibrillation, too short for a diagnosis (under {AF_EPISODE_MIN_MS // 1000} s)",
    _WINDOW,
    "as af_episode: shorter stretches call for a longer recording",
)
OTHER_RHYTHM: Final = Rule(
    "other_rhythm",
    _ELEVATED,
    "a rhythm that is neither normal sinus nor atrial fibrillation",
    _WINDOW,
    f"class O {sources.CINC}",
)
S_RUN: Final = Rule("s_run", _ROUTINE, f"short supraventricular run: {_ATRIAL_RUN}", _CERTAIN, sources.SVT_GUIDELINE)
PAUSE_NOTED: Final = Rule(
    "pause_2s",
    _ROUTINE,
    f"pause: no beat found for over {PAUSE_NOTED_MS // 1000} s, under {PAUSE_LONG_MS // 1000} s",
    _PAUSE,
    f"{sources.HOLTER_NORMAL} (longest of 260 healthy people: 2.04 s)",
)
TACHYCARDIA: Final = Rule(
    "tachycardia",
    _ROUTINE,
    f"heart rate over {TACHYCARDIA_BPM}/min{_NO_CONTEXT}",
    _RATE,
    "definition of sinus tachycardia; common in exercise, so it lifts no tier by itself",
)
BRADYCARDIA: Final = Rule(
    "bradycardia", _ROUTINE, f"heart rate under {BRADYCARDIA_BPM}/min{_NO_CONTEXT}", _RATE, sources.BRADY_GUIDELINE
)
PVC: Final = Rule(
    "pvc", _ROUTINE, "ventricular beats (PVC burden)", f"{ECTOPY_MIN_BEATS} judged beats", "ANSI/AAMI EC57, class V"
)
PAC: Final = Rule(
    "pac",
    _ROUTINE,
    "supraventricular ectopic beats (PAC burden)",
    f"{ECTOPY_MIN_BEATS} judged beats",
    "ANSI/AAMI EC57, class S",
)
PAUSE_UNSURE: Final = Rule(
    "pause_unsure",
    RiskTier.INCONCLUSIVE,
    f"no beat found for {PAUSE_LONG_MS // 1000} s or more in signal like that of a loose electrode: that, or a pause",
    f"beats before and after it, no sample missing; up to {PAUSE_BELIEVED_MS // 1000} s",
    "this project's choice: one lead shows no difference between a still heart and an electrode that is off",
)
NO_BEATS: Final = Rule(
    "no_beats",
    RiskTier.INCONCLUSIVE,
    f"no beat found for over {PAUSE_BELIEVED_MS // 1000} s though the signal looks usable: check the electrodes",
    _PAUSE,
    "this project's choice: an electrode that came off is likelier than a heart that came back",
)
NORMAL: Final = Rule("normal", _ROUTINE, "normal sinus rhythm", _WINDOW, f"class N {sources.CINC}")

RULES: Final = (
    VT_SUSTAINED,
    VT_RUN,
    PAUSE_VERY_LONG,
    EXTREME_TACHYCARDIA,
    EXTREME_BRADYCARDIA,
    VT_UNCERTAIN,
    AF_EPISODE,
    AF_SHORT,
    OTHER_RHYTHM,
    IDIOVENTRICULAR,
    V_COUPLET,
    V_BIGEMINY,
    V_TRIGEMINY,
    PVC_BURDEN,
    SVT_SUSTAINED,
    S_RUN_LONG,
    PAC_FREQUENT,
    PAUSE_LONG,
    FAST_TACHYCARDIA,
    SLOW_BRADYCARDIA,
    S_RUN,
    PAUSE_NOTED,
    TACHYCARDIA,
    BRADYCARDIA,
    PVC,
    PAC,
    NORMAL,
    PAUSE_UNSURE,
    NO_BEATS,
)
"""Highest tier first; evidence comes in this order."""
