"""The catalogue as DCAT-AP 3 (JSON-LD): every entry a dataset, what is delivered or published its distributions.

Vocabularies: DCAT 3, DCAT-AP 3.0, and the European authority tables for language, file type, frequency, access right,
theme and media type, which the profile asks for. Chinese words stand beside them. Tested against the SHACL shapes of
DCAT-AP 3.0.0 (SEMIC).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import date
from typing import Any

from catalog import vocabularies
from catalog.entries import Entry
from catalog.entries.declared import Provider

EU = "http://publications.europa.eu/resource/authority"
CONTEXT: dict[str, Any] = {
    "adms": "http://www.w3.org/ns/adms#",
    "dcat": "http://www.w3.org/ns/dcat#",
    "dcatap": "http://data.europa.eu/r5r/",
    "dct": "http://purl.org/dc/terms/",
    "foaf": "http://xmlns.com/foaf/0.1/",
    "prov": "http://www.w3.org/ns/prov#",
    "rdfs": "http://www.w3.org/2000/01/rdf-schema#",
    "skos": "http://www.w3.org/2004/02/skos/core#",
    "vcard": "http://www.w3.org/2006/vcard/ns#",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
}
FREQUENCY = {
    "realtime": "UPDATE_CONT", "hourly": "HOURLY", "daily": "DAILY", "weekly": "WEEKLY", "monthly": "MONTHLY",
    "quarterly": "QUARTERLY", "yearly": "ANNUAL",
}  # fmt: skip
ACCESS = {"unconditional": "PUBLIC", "conditional": "RESTRICTED", "closed": "NON_PUBLIC"}
THEME = {"supervision": "HEAL", "fitness": "HEAL", "training": "EDUC"}
DEFAULT_THEME = "EDUC"
"""EU data themes have no sport; the theme "Education, culture and sport" is EDUC."""
FILES = {
    "CSV": ("CSV", "text/csv"),
    "XLSX": ("XLSX", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    "JSON": ("JSON", "application/json"),
    "XML": ("XML", "application/xml"),
}
CRS = {
    "CGCS2000": "http://www.opengis.net/def/crs/EPSG/0/4490",
    "WGS-84": "http://www.opengis.net/def/crs/EPSG/0/4326",
}
"""GCJ-02 and BD-09 have no code in the register of coordinate systems."""


def _zh(text: str) -> dict[str, str]:
    return {"@language": "zh", "@value": text}


def _concept(iri: str, label: str) -> dict[str, Any]:
    return {"@id": iri, "@type": "skos:Concept", "skos:prefLabel": _zh(label)}


def _day(day: date) -> dict[str, str]:
    return {"@type": "xsd:date", "@value": day.isoformat()}


def iri(base: str, entry_id: str) -> str:
    """The address of an entry below the catalogue's."""
    return f"{base.rstrip('/')}/{entry_id}"


class Writer:
    """Builds the graph of one catalogue; `base` is the address its entries live under, `issued` the day it is written."""

    def __init__(self, base: str, provider: Provider, issued: date):
        self.base, self.provider, self.issued = base.rstrip("/"), provider, issued

    def document(self, entries: Iterable[Entry]) -> dict[str, Any]:
        """The whole document: catalogue, its records, datasets, distributions and services."""
        known = list(entries)
        ids = {entry.id for entry in known}
        graph: list[dict[str, Any]] = [self._catalogue(known), self._publisher(), *self._shared(known)]
        for entry in known:
            graph += [self._dataset(entry, ids), self._record(entry)]
        return {"@context": CONTEXT, "@graph": graph}

    # ------------------------------------------------------------------ nodes
    def _publisher(self) -> dict[str, Any]:
        return {
            "@id": f"{self.base}/publisher",
            "@type": "foaf:Agent",
            "foaf:name": _zh(self.provider.name),
            "dct:type": _concept("http://purl.org/adms/publishertype/LocalAuthority", "地方政府部门"),
            "adms:identifier": self._identifier(self.provider.uscc),
        }

    def _catalogue(self, entries: list[Entry]) -> dict[str, Any]:
        return {
            "@id": self.base,
            "@type": "dcat:Catalog",
            "dct:title": _zh(f"{self.provider.name}数据资源目录"),
            "dct:description": _zh("体育公共数据中台的全部来源、数据表与输出，按政务信息资源目录编制指南编目"),
            "dct:publisher": {"@id": f"{self.base}/publisher"},
            "dct:language": {"@id": f"{EU}/language/ZHO"},
            "dct:issued": _day(self.issued),
            "dct:modified": _day(self.issued),
            "dcat:themeTaxonomy": {"@id": f"{EU}/data-theme"},
            "foaf:homepage": {"@id": f"{self.base}/", "@type": "foaf:Document"},
            "dcat:dataset": [{"@id": iri(self.base, entry.id)} for entry in entries],
            "dcat:record": [{"@id": f"{iri(self.base, entry.id)}#record"} for entry in entries],
        }

    def _shared(self, entries: list[Entry]) -> list[dict[str, Any]]:
        """Nodes that several datasets point to, each stated once with the class the shapes ask for."""
        used = {THEME.get(entry.domain, DEFAULT_THEME) for entry in entries}
        themes = [_concept(f"{EU}/data-theme/{code}", code) for code in sorted(used)]
        cycles = sorted({entry.update_cycle for entry in entries})
        rights = sorted({entry.open.type for entry in entries})
        grades = sorted({entry.grade for entry in entries if entry.grade})
        return [
            {"@id": f"{EU}/language/ZHO", "@type": "dct:LinguisticSystem"},
            {"@id": f"{EU}/data-theme", "@type": "skos:ConceptScheme", "dct:title": _zh("数据主题")},
            *themes,
            *(
                {
                    "@id": f"{EU}/frequency/{FREQUENCY[cycle]}",
                    "@type": "dct:Frequency",
                    "rdfs:label": _zh(vocabularies.name_of("update_cycle", cycle)),
                }
                for cycle in cycles
            ),
            *(
                {
                    "@id": f"{EU}/access-right/{ACCESS[kind]}",
                    "@type": "dct:RightsStatement",
                    "rdfs:label": _zh(vocabularies.name_of("open_type", kind)),
                }
                for kind in rights
            ),
            *(_concept(f"{self.base}/grade/{grade}", vocabularies.name_of("grade", grade)) for grade in grades),
        ]

    def _identifier(self, notation: str) -> dict[str, Any]:
        return {
            "@type": "adms:Identifier",
            "skos:notation": {"@type": f"{self.base}/datatype/code", "@value": notation},
        }

    def _dataset(self, entry: Entry, ids: set[str]) -> dict[str, Any]:
        node: dict[str, Any] = {
            "@id": iri(self.base, entry.id),
            "@type": ["dcat:Dataset", "dcat:Resource"],  # stated: the shapes are judged without inference
            "dct:title": _zh(entry.title_zh),
            "dct:description": _zh(entry.summary),
            "dct:identifier": entry.code or entry.id,
            "dct:publisher": {"@id": f"{self.base}/publisher"},
            "dcat:contactPoint": {
                "@type": "vcard:Kind",
                "vcard:fn": _zh(entry.owner_name),
                "vcard:note": _zh(self.provider.contact),
            },
            "dct:accessRights": {"@id": f"{EU}/access-right/{ACCESS[entry.open.type]}"},
            "dct:accrualPeriodicity": {"@id": f"{EU}/frequency/{FREQUENCY[entry.update_cycle]}"},
            "dct:language": {"@id": f"{EU}/language/ZHO"},
            "dcat:theme": {"@id": f"{EU}/data-theme/{THEME.get(entry.domain, DEFAULT_THEME)}"},
            "dcat:keyword": [_zh(word) for word in (entry.keywords or (entry.classes[-1].name,))],
            "dct:spatial": {
                "@id": "http://publications.europa.eu/resource/authority/place/CHN_SHA",
                "@type": "dct:Location",
                "skos:prefLabel": _zh("上海市"),
            },
            "dct:provenance": {"@type": "dct:ProvenanceStatement", "rdfs:label": _zh(self._provenance(entry))},
        }
        if entry.grade:
            node["dct:type"] = {"@id": f"{self.base}/grade/{entry.grade}"}
        if entry.version:
            node["dcat:version"] = entry.version
        if entry.published_on:
            node["dct:issued"] = _day(entry.published_on)
        if entry.code:
            node["adms:identifier"] = self._identifier(entry.code)
        if standards := [self._standard(name) for name in (entry.crs or "").split("、") if name in CRS]:
            node["dct:conformsTo"] = standards
        upstream = [{"@id": iri(self.base, name)} for name in entry.upstream if name in ids]
        if upstream:
            node["dct:source"] = upstream
        if distributions := self._distributions(entry):
            node["dcat:distribution"] = distributions
        return node

    @staticmethod
    def _standard(name: str) -> dict[str, Any]:
        return {"@id": CRS[name], "@type": "dct:Standard", "dct:title": _zh(vocabularies.name_of("crs", name))}

    @staticmethod
    def _provenance(entry: Entry) -> str:
        return f"数据来源：{entry.origin_zh}。采集依据：{entry.legal_basis}。保存期限：{entry.retention}。"

    def _distributions(self, entry: Entry) -> list[dict[str, Any]]:
        """Files of a published or delivered product; an entry that leaves by neither has no distribution to offer."""
        if entry.kind not in ("open", "exchange"):
            return []
        names = [name for name in FILES if name in entry.format_name]
        rights = entry.open if entry.kind == "open" else entry.share
        return [
            {
                "@id": f"{iri(self.base, entry.id)}#{name.lower()}",
                "@type": "dcat:Distribution",
                "dct:title": _zh(f"{entry.title_zh}（{name}）"),
                "dcat:accessURL": {"@id": iri(self.base, entry.id), "@type": "rdfs:Resource"},
                "dct:format": {"@id": f"{EU}/file-type/{FILES[name][0]}", "@type": "dct:MediaTypeOrExtent"},
                "dcat:mediaType": {
                    "@id": f"https://www.iana.org/assignments/media-types/{FILES[name][1]}",
                    "@type": "dct:MediaType",
                },
                "dct:license": {
                    "@id": f"{self.base}/licence/to-be-confirmed",
                    "@type": "dct:LicenseDocument",
                    "dct:title": _zh("待确认：开放许可文本由主管部门确认后填写"),
                },
                "dct:rights": {
                    "@type": "dct:RightsStatement",
                    "rdfs:label": _zh(rights.condition or vocabularies.name_of("open_type", entry.open.type)),
                },
                "dcatap:availability": _concept(
                    "http://publications.europa.eu/resource/authority/planned-availability/STABLE", "稳定"
                ),
            }
            for name in names
        ]

    def _record(self, entry: Entry) -> dict[str, Any]:
        return {
            "@id": f"{iri(self.base, entry.id)}#record",
            "@type": "dcat:CatalogRecord",
            "foaf:primaryTopic": {"@id": iri(self.base, entry.id)},
            "dct:issued": _day(entry.published_on or self.issued),
            "dct:modified": _day(self.issued),
            "dct:language": {"@id": f"{EU}/language/ZHO"},
        }


def text(entries: Iterable[Entry], provider: Provider, base: str, issued: date) -> str:
    """The catalogue as JSON-LD text."""
    return json.dumps(Writer(base, provider, issued).document(entries), ensure_ascii=False, indent=1) + "\n"
