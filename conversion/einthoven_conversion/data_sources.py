"""The public recordings that the shipped models learned from: names, licences, citations, and what each was used for.

It deliberately reads none of them (``datasets`` does). A model card may name only what a recipe says it saw.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class DataSource:
    """One published set of recordings.

    Attributes:
        name: As its publishers call it.
        licence: SPDX identifier; empty where none could be confirmed.
        cite: How its publishers want to be cited.
        url: Where it is published.
        contents: What is in it, for people.
    """

    name: str
    licence: str
    cite: str
    url: str
    contents: str


PHYSIONET: Final = "Goldberger AL et al. PhysioBank, PhysioToolkit, and PhysioNet. Circulation 2000;101(23):e215-e220"
SOURCES: Final = {
    "cinc2017": DataSource(
        "PhysioNet/Computing in Cardiology Challenge 2017, training set, version 1.0.0",
        "ODC-By-1.0",
        "Clifford GD, Liu C, Moody B, Li-wei HL, Silva I, Li Q, Johnson AE, Mark RG. AF Classification from a "
        "Short Single Lead ECG Recording: the PhysioNet/Computing in Cardiology Challenge 2017. Computing in "
        "Cardiology 2017;44. doi:10.22489/CinC.2017.065-469",
        "https://physionet.org/content/challenge-2017/1.0.0/",
        "ECGs of 9 to 61 s from a hand-held recorder (AliveCor, lead I, 300 Hz), a rhythm class each; no subject ids",
    ),
    "mitdb": DataSource(
        "MIT-BIH Arrhythmia Database 1.0.0",
        "ODC-By-1.0",
        "Moody GB, Mark RG. The impact of the MIT-BIH Arrhythmia Database. IEEE Eng in Med and Biol 20(3):45-50 "
        "(2001). doi:10.13026/C2F305",
        "https://physionet.org/content/mitdb/1.0.0/",
        "half-hour ambulatory ECGs of two leads at 360 Hz, every beat marked; only group DS1 and the paced records",
    ),
    "qtdb": DataSource(
        "QT Database 1.0.0",
        "ODC-By-1.0",
        "Laguna P, Mark RG, Goldberger AL, Moody GB. A Database for Evaluation of Algorithms for Measurement of QT and "
        "Other Waveform Intervals in the ECG. Computers in Cardiology 24:673-676 (1997). doi:10.13026/C24K53",
        "https://physionet.org/content/qtdb/1.0.0/",
        "fifteen-minute excerpts at 250 Hz from seven databases, beats and wave limits marked",
    ),
    "cpsc2021": DataSource(
        "4th China Physiological Signal Challenge 2021, paroxysmal AF events, 1.0.0 (9 records of 3 people)",
        "",
        "Wang X, Ma C, Zhang X, Gao H, Clifford G, Liu C. Paroxysmal Atrial Fibrillation Events Detection from Dynamic "
        "ECG Recordings: The 4th China Physiological Signal Challenge 2021. PhysioNet 2021. doi:10.13026/ksya-qw89",
        "https://physionet.org/content/cpsc2021/1.0.0/",
        "ambulatory ECGs, leads I and II, 200 Hz, beats and spans of AF marked; open access, licence not confirmed",
    ),
    "cudb": DataSource(
        "CU Ventricular Tachyarrhythmia Database 1.0.0 (one record)",
        "ODC-By-1.0",
        "Nolle FM, Badura FK, Catlett JM, Bowser RW, Sketch MH. CREI-GARD, a new concept in computerized arrhythmia "
        "monitoring systems. Computers in Cardiology 13:515-518 (1986). doi:10.13026/C2X59M",
        "https://physionet.org/content/cudb/1.0.0/",
        "one ECG of 8.5 minutes at 250 Hz with ventricular fibrillation, beats marked",
    ),
    "nstdb": DataSource(
        "MIT-BIH Noise Stress Test Database 1.0.0",
        "ODC-By-1.0",
        "Moody GB, Muldrow WE, Mark RG. A noise stress test for arrhythmia detectors. Computers in Cardiology "
        "11:381-384 (1984). doi:10.13026/C2HS3T",
        "https://physionet.org/content/nstdb/1.0.0/",
        "noise of electrodes on walking people at 360 Hz; no ECG of its own",
    ),
}
PART_SOURCES: Final = {
    "beats.json": ("mitdb", "qtdb", "cpsc2021", "cudb", "cinc2017", "nstdb"),
    "quality.json": ("cinc2017", "mitdb", "qtdb", "nstdb"),
    "beat_classes.json": ("mitdb", "nstdb"),
    "verdict.json": ("cinc2017", "nstdb"),
}
"""What each part of a model was fitted on; ``conversion/BEATS.md`` and ``conversion/QUALITY.md`` say how."""


def licence_entry(source_id: str, use: str) -> dict[str, Any]:
    """What a manifest says of a source.

    Args:
        source_id: A key of ``SOURCES``.
        use: What the model got from it, half a sentence.
    """
    source = SOURCES[source_id]
    return {"id": source_id, "name": source.name, "licence": source.licence, "cite": source.cite, "use": use}


RHYTHM_LICENCES: Final[tuple[dict[str, Any], ...]] = (
    licence_entry("cinc2017", "training, cross-validation and calibration"),
    licence_entry("nstdb", "noise added in training"),
    {"id": "", "name": "PhysioNet", "licence": "", "cite": PHYSIONET, "use": "publisher of all of these"},
)
