"""What people have to know before they use the models, said once for the card and for the bill of materials.

It deliberately holds words only. Figures belong to a manifest, with their n.
"""

from __future__ import annotations

from typing import Final

USERS: Final = (
    "Engineers who build research or wellness software on a single-lead ECG",
    "Researchers who want a verdict that they can recompute bit for bit",
)
USE_CASES: Final = (
    "Class of the rhythm (normal, atrial fibrillation, other, noise) of up to 30 s of single-lead ECG of an adult, on"
    " the device that recorded it",
    "Choosing which recordings a clinician looks at first; every one stays there to be looked at",
)
OUT_OF_SCOPE: Final = (
    "Diagnosis or treatment, alone or as the deciding part of either; alarms that a life depends on",
    "Children, paced hearts, and leads other than lead I or one like it (a chest strap)",
    "Any statement about the future of a person: the models name what is in the signal",
)
LIMITS: Final = (
    "No subject ids are published: recordings of one person may be in several folds, which flatters the figures.",
    "One device (AliveCor, lead I), adults who chose to record; no age, sex or illness is known, so the only subgroups"
    " that could be examined are those that can be seen in the signal.",
    "Experts agreed only moderately on O and ~, and O is a mix of many rhythms.",
    "Ventricular fibrillation, pacing and paediatric ECGs are not in the training data.",
    "Electrodes swapped or turned over are handled (training saw both polarities); other leads were not tested.",
    "The figures are of whole records of 9 to 61 s, not of single seconds.",
)
TRADEOFFS: Final = (
    "Int8 weights and states instead of float: a tenth of the size, and the same bits on every machine.",
    "No verdict where AF is neither ruled in nor out: fewer wrong ones, and a share of recordings without one.",
    "Causal, one step a second: no look-ahead beyond 1.2 s, at the price of what the rest of the recording could tell.",
)
ETHICS: Final = (
    (
        "A reassuring verdict on a sick person",
        "Inconclusive results carry their reason; every verdict carries its confidence and the seconds that drove it;"
        " the ECG is kept, so that people can look",
    ),
    (
        "An alarming verdict on a healthy person",
        "Verdicts are withheld where AF is open; the card gives specificity with its interval",
    ),
    (
        "Use as a medical device",
        "Every card, report and command says that it is none; it has been through no clinical validation",
    ),
    (
        "Health data leaving the person",
        "The model runs on the device; nothing is sent unless the app enrols with a server",
    ),
)
FAIRNESS: Final = (
    (
        "People whose age, sex, body or skin differ from those who bought an AliveCor recorder before 2017",
        "None that could be measured",
        "Error rates for them are not known: the training data hold no such field",
        "Figures by heart rate, signal quality and length instead; validate on your own people before use",
    ),
)
