"""Small ECG exports, constructed: HL7 aECG, Philips Sierra with its packing, Schiller EDI and Apple Health.

Written from the descriptions of the formats and not with the readers' code, so that a reader that misunderstands one
does not agree with itself.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping, Sequence

import numpy as np

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


def counts(n: int = 600, seed: int = 0) -> np.ndarray:
    """Something like an ECG in whole counts, int64 [n]."""
    at = np.arange(n)
    noise = np.random.default_rng(seed).integers(-3, 4, n)
    return (40 * np.sin(at / 17) + 180 * np.exp(-(((at % 150) - 60) ** 2) / 18)).round().astype(np.int64) + noise


def aecg_lead(name: str, digits: Sequence[object], *, scale: str = "2.5", unit: str = "uV", origin: str = "0") -> str:
    return f"""<component><sequence><code code="MDC_ECG_LEAD_{name}" codeSystem="2.16.840.1.113883.6.24"/>
      <value xsi:type="SLIST_PQ"><origin value="{origin}" unit="{unit}"/><scale value="{scale}" unit="{unit}"/>
      <digits>{" ".join(map(str, digits))}</digits></value></sequence></component>"""


def aecg_time(increment: str = "0.002", unit: str = "s", head: str = "20021122091000") -> str:
    return f"""<component><sequence><code code="TIME_ABSOLUTE" codeSystem="2.16.840.1.113883.5.4"/>
      <value xsi:type="GLIST_TS"><head value="{head}"/><increment value="{increment}" unit="{unit}"/></value>
      </sequence></component>"""


def aecg_series(*sequences: str, code: str = "RHYTHM") -> str:
    return f"""<component><series><code code="{code}" codeSystem="2.16.840.1.113883.5.4"/>
      <component><sequenceSet>{"".join(sequences)}</sequenceSet></component></series></component>"""


def aecg(*series: str, head: str = "") -> bytes:
    return f"""<?xml version="1.0" encoding="UTF-8"?>{head}
<AnnotatedECG xmlns="urn:hl7-org:v3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" type="Observation">
  <id root="61d1a24f-b47e-41aa-ae95-f8ac302f4eeb"/><effectiveTime><center value="20021122091000"/></effectiveTime>
  <componentOf><subjectDemographicPerson><name>Jane Roe</name></subjectDemographicPerson></componentOf>
  {"".join(series)}
</AnnotatedECG>""".encode()


def schiller(
    channels: Mapping[str, Sequence[object]] | Sequence[tuple[str, Sequence[object]]],
    *,
    rate: str = "500",
    exponent: str = "1",
    unit: str = "UV",
    resolution: str = "1.0",
    count: str | None = None,
    encoding: str = "COMMASEPARATE",
    kind: str = "ECG_RHYTHMS",
) -> bytes:
    named = channels.items() if isinstance(channels, Mapping) else channels
    listed = "".join(
        f"<channel>\n<name>{name}</name>\n<data>{','.join(map(str, values))}</data>\n"
        f"<datastype>{encoding}</datastype>\n"
        f"<samplecount>{len(values) if count is None else count}</samplecount>\n</channel>\n"
        for name, values in named
    )
    grid = (
        f"<resolution><samplerate><exponent>{exponent}</exponent><value>{rate}</value></samplerate>"
        f"<yres><unitperbit>{resolution}</unitperbit><units>{unit}</units></yres></resolution>"
    )
    averages = f"<wavedata><type>ECG_AVERAGES</type>{grid}<channel><name>II</name><data>9,9</data></channel></wavedata>"
    return f"""<?xml version="1.0"?>
<com.xiriuz.sema.xml.schillerEDI.SchillerEDI><patdata><lastname>Roe</lastname></patdata>
<examdescript><startdatetime><date>19700101</date><time>000000000</time></startdatetime></examdescript>
<eventdata><event>{averages}<wavedata><type>{kind}</type>{grid}{listed}</wavedata></event></eventdata>
</com.xiriuz.sema.xml.schillerEDI.SchillerEDI>""".encode()


def lzw(raw: bytes) -> bytes:
    """LZW in 10-bit codes, most significant bit first; the table is full with 1,023 entries; 1023 ends it."""
    table = {bytes((value,)): value for value in range(256)}
    codes, word = [], b""
    for value in raw:
        longer = word + bytes((value,))
        if longer in table:
            word = longer
            continue
        codes.append(table[word])
        if len(table) < 1023:
            table[longer] = len(table)
        word = bytes((value,))
    return pack_codes([*codes, *([table[word]] if word else []), 1023])


def pack_codes(codes: Sequence[int]) -> bytes:
    bits = "".join(f"{code:010b}" for code in codes)
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))


def xli_chunk(samples: Sequence[int] | np.ndarray, *, mark: int = 1) -> bytes:
    """One channel: the first two samples as they are, then 64 + what each departs from a straight line, one late."""
    x = [int(value) for value in samples]
    departs = [2 * x[at - 1] - x[at - 2] - x[at] for at in range(2, len(x))]
    codes = x[:2] + [depart + 64 for depart in departs[1:]] + [0]
    words = [code & 0xFFFF for code in codes][: len(x)]
    packed = lzw(bytes(word >> 8 for word in words) + bytes(word & 0xFF for word in words))
    return struct.pack("<IHh", len(packed), mark, departs[0] if departs else 0) + packed


def halved(values: np.ndarray) -> np.ndarray:
    return np.trunc(values / 2).astype(np.int64)


def sierra_chunks(leads: Mapping[str, np.ndarray]) -> bytes:
    """Chunks of the twelve leads; III, aVR, aVL, aVF as what is left after their computation from I and II."""
    one, two, three = leads["I"], leads["II"], leads["III"]
    rest = {
        "III": two - one - three,
        "aVR": -halved(one + two) - leads["aVR"],
        "aVL": halved(one - three) - leads["aVL"],
        "aVF": halved(two + three) - leads["aVF"],
    }
    return b"".join(xli_chunk(rest.get(name, leads[name])) for name in LEADS)


def twelve_leads(n: int = 600) -> dict[str, np.ndarray]:
    """Counts that obey Einthoven and Goldberger within a count, as recorders' do."""
    one, two = counts(n, 1), counts(n, 2)
    three = two - one + np.random.default_rng(3).integers(-1, 2, n)
    limbs = {"aVR": -(one + two) // 2, "aVL": (one - three + 1) // 2, "aVF": (two + three) // 2}
    return {"I": one, "II": two, "III": three, **limbs, **{f"V{v}": counts(n, 10 + v) for v in range(1, 7)}}


def sierra(
    chunks: bytes | str,
    *,
    n: int = 600,
    version: str = "1.04",
    encoding: str = "UTF-8",
    labels: str | None = " ".join(LEADS),
    packing: str = 'compression="XLI"',
    base: str = "Base64",
    rate: str = "500",
    resolution: str = "5",
    bits: str = "16",
    duration: str | None = None,
    leadset: str = "STD-12",
) -> bytes:
    text = chunks if isinstance(chunks, str) else base64.encodebytes(chunks).decode("ascii")
    lasts = str(n * 2) if duration is None else duration  # ms at 500 Hz
    named = f'leadlabels="{labels}"' if labels is not None else ""
    resolved = "signalresolution" if version == "1.03" else "resolution"
    return f"""<?xml version="1.0" encoding="{encoding}"?>
<restingecgdata xmlns="http://www3.medical.philips.com">
  <documentinfo><documentversion>{version}</documentversion></documentinfo>
  <dataacquisition date="2010-01-19" time="15:19:22"><signalcharacteristics><samplingrate>{rate}</samplingrate>
    <{resolved}>{resolution}</{resolved}><bitspersample>{bits}</bitspersample><signaloffset>0</signaloffset>
    <signalsigned>True</signalsigned><leadset>{leadset}</leadset></signalcharacteristics></dataacquisition>
  <patient><name><lastname>Roe</lastname></name></patient>
  <waveforms><parsedwaveforms dataencoding="{base}" {packing} {named} durationperchannel="{lasts}">
{text}</parsedwaveforms></waveforms></restingecgdata>""".encode(encoding)


def apple(
    samples: Sequence[str],
    *,
    rate: str = "Sample Rate,512 hertz",
    name: str = "Name,Jane Roe",
    date: str = "Recorded Date,2024-01-15 10:00:00 +0000",
    lead: str = "Lead,Lead I",
    unit: str = "Unit,µV",
    between: int = 2,
    newline: str = "\n",
) -> bytes:
    rows = [name, 'Date of Birth,"Jan 1, 1970"', date, "Classification,Sinus Rhythm", "Symptoms,", 'Device,"Watch7,1"']
    return newline.join([*rows, rate, *[""] * between, lead, unit, *[""] * between, *samples, ""]).encode()
