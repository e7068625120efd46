"""What the risk rules cite: guidelines and papers, with the place in them. Values only.

Each is cited for a threshold or a definition, never for what might come of a finding.
"""

from __future__ import annotations

from typing import Final

AF_GUIDELINE: Final = (
    "Hindricks et al., 2020 ESC Guidelines for atrial fibrillation, Eur Heart J 2021;42:373-498, section 3.1"
)
CINC: Final = "of the PhysioNet/CinC Challenge 2017, doi:10.22489/CinC.2017.065-469"
VA_GUIDELINE: Final = (
    "Al-Khatib et al., 2017 AHA/ACC/HRS Guideline for ventricular arrhythmias, Circulation 2018;138:e272-e391, Table 4"
)
PVC_GUIDELINE: Final = (
    "Zeppenfeld et al., 2022 ESC Guidelines for ventricular arrhythmias, Eur Heart J 2022;43:3997-4126,"
    " PVC-induced cardiomyopathy: a burden over 10 % of 24 h"
)
SVT_GUIDELINE: Final = (
    "Brugada et al., 2019 ESC Guidelines for supraventricular tachycardia, Eur Heart J 2020;41:655-720"
)
ATHLETES: Final = (
    "Sharma et al., International recommendations for ECG interpretation in athletes, Eur Heart J 2018;39:1466-1480,"
    " abnormal findings"
)
BINICI: Final = "Binici et al., Excessive atrial ectopy, Circulation 2010;121:1904-1911"
BRADY_GUIDELINE: Final = (
    "Kusumoto et al., 2018 ACC/AHA/HRS Guideline on bradycardia, Circulation 2019;140:e382-e482, definitions"
)
SYNCOPE_GUIDELINE: Final = "Brignole et al., 2018 ESC Guidelines for syncope, Eur Heart J 2018;39:1883-1948"
PACING_GUIDELINE: Final = (
    "Glikson et al., 2021 ESC Guidelines on cardiac pacing, Eur Heart J 2021;42:3427-3520, reflex syncope"
)
HOLTER_NORMAL: Final = (
    "Bjerregaard, Mean 24 hour heart rate, minimal heart rate and pauses in healthy subjects, Eur Heart J 1983;4:44-51"
)
NEWS2: Final = "Royal College of Physicians, National Early Warning Score 2, 2017"
MAXIMAL_RATE: Final = "Tanaka et al., Age-predicted maximal heart rate, J Am Coll Cardiol 2001;37:153-156"
