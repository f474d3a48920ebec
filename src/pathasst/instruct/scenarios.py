"""The kinds of tool conversations and what is said in each: turns, and the marks that say which wordings they used.

Knows requests, results and wordings; knows pictures only through the pair it is given. See `invoke` for which picture, which
tools are on offer and how often each kind is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from pathasst.core.records import FAILED, NOTICE, Mark, Pair, ToolCall, Turn
from pathasst.core.templates import Template
from pathasst.instruct.converse import exchanges
from pathasst.instruct.literature import result_text
from pathasst.instruct.requests import Request, Requests, join
from pathasst.instruct.results import draw as draw_result
from pathasst.instruct.typos import Typist
from pathasst.instruct.wordings import Wordings, capital, choices, of_split, templates

EMPTY = 0.04  # of the results find nothing
TOGETHER = 0.4  # of the requests for two tools name both in one sentence
TOOL_TOPICS = ("bethesda", "is-bethesda", "cell", "is-cell")  # what a tool on offer may be better at
FORMATS = (7, 2, 1)  # how often each wording of a result is used: the tool's own first


@dataclass(slots=True)
class Script:
    """A conversation in the making."""

    turns: list[Turn] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    scenario: str = ""  # of the first request
    tool: str = ""  # that the first request is about

    def say(self, role: str, content: str, **more: Any) -> None:
        self.turns.append(Turn(role=role, content=content, **more))

    def mark(self, scenario: str, wording: str, tool: str = "") -> None:
        """Note which wording the next request uses, and what for."""
        if not self.marks:
            self.scenario, self.tool = scenario, tool
        self.marks.append(Mark(step="invoke", by=scenario, note=wording))


class Scenarios:
    """Writes scripts of one split. `pair` is the picture's pair, or None when no picture is attached."""

    def __init__(self, wordings: Wordings, requests: Requests, rng: Random, split: str) -> None:
        self.wordings, self.requests, self.rng, self.split = wordings, requests, rng, split

    def node(self, tool: str) -> Any:
        return self.wordings.load(f"tools/{tool}")

    def single(self, tool: str, pair: Pair | None, script: Script, *, follow: float = 0.4) -> None:
        """One request, one call, the answer; now and then a question about the result."""
        self._first(tool, pair, script)
        if self.rng.random() < follow:
            self._follow_up(tool, script)

    def several(self, tools: list[str], pair: Pair | None, script: Script) -> None:
        """Two requests in one message, served by two calls in one turn, answered together."""
        if self.rng.random() < TOGETHER and all({"things", "acts"} <= set(self.node(t)) for t in tools):
            joined, (first, second) = self.requests.together(tools, self.rng, self.split)
        else:
            first, second = (self._request(t) for t in tools)
            frame = self.wordings.load("frame")
            joined = join(first.text, second.text, self.rng.choice(templates(frame["join"], self.split)), self.rng)
        script.mark("several", f"{first.template} + {second.template}")
        script.say("user", self.requests.frame(joined, self.rng, self.split, self.node(tools[0])["domain"]))
        script.say("assistant", "", tool_calls=[first.call, second.call])
        answers = []
        for request in (first, second):
            text, facts = self._result(request, pair)
            script.say("tool", text, tool=request.call.name)
            answers.append(self._answer(request, facts))
        script.say("assistant", " ".join(answers))

    def chain(self, tools: list[str], pair: Pair | None, script: Script) -> None:
        """A request, its answer, then another request in a later turn."""
        self.single(tools[0], pair, script, follow=0.2)
        second = self._request(tools[1])
        again = self.rng.choice(templates(self.wordings.load("frame")["again"], self.split))
        script.mark("chain", second.template)
        script.say("user", join("", second.text, again, self.rng))
        self._served(second, pair, script)

    def repeat(self, tool: str, pair: Pair | None, script: Script) -> None:
        """The same once more, in words that mean nothing without the turn before."""
        request = self._first(tool, pair, script)
        script.say("user", self._later("repeat", script))
        self._served(request, pair, script)

    def read_on(self, tool: str, pair: Pair | None, script: Script) -> None:
        """After a result, papers on it: the query names what "it" is. Nothing is found: other hits would mislead."""
        request = self._first(tool, pair, script)
        topics = self.wordings.load("later")["topics"].get(tool)
        query = self.rng.choice(topics) if topics else str(request.call.arguments.get("query", tool.replace("_", " ")))
        script.say("user", self._later("read_on", script))
        script.say("assistant", "", tool_calls=[ToolCall(name="papers_search", arguments={"query": query})])
        script.say("tool", result_text([], query), tool="papers_search")
        script.say("assistant", capital(self.rng.choice(self.node("papers_search")["answers"]["none"])))

    def talk(self, tool: str, pair: Pair | None, script: Script) -> None:
        """After a result, words that ask for nothing to be run."""
        self._first(tool, pair, script)
        remark, answer = self.rng.choice(choices(self.wordings.load("later")["talk"], self.split))
        script.mark("talk", remark)
        script.say("user", self._typed(remark))
        script.say("assistant", answer)

    def _first(self, tool: str, pair: Pair | None, script: Script) -> Request:
        """One request, served."""
        request = self._request(tool)
        script.mark("single", request.template, tool)
        script.say("user", request.framed)
        self._served(request, pair, script)
        return request

    def _later(self, kind: str, script: Script) -> str:
        template = self.rng.choice(templates(self.wordings.load("later")[kind], self.split))
        script.mark(kind, template.text)
        return self._typed(template.text)

    def _typed(self, wording: str) -> str:
        """A wording as someone types it, with what surrounds it now and then."""
        typist = Typist(self.rng, self.requests.slips)
        text = Template(wording).fill(self.rng, self.wordings.slots(self.rng, self.split), typist)
        text = typist.sentence(text)
        return self.requests.frame(text, self.rng, self.split, "any") if self.rng.random() < 0.3 else text

    def refused(self, scenario: str, tool: str, script: Script, **slots: str) -> None:
        """A request that is refused: the tool is not offered, the picture is of the wrong kind, or there is none."""
        request = self._request(tool)
        node = self.node(tool)
        script.mark(scenario, request.template, tool)
        script.say("user", request.framed)
        script.say("assistant", self._refusal(scenario, {"able": node["able"], "needs": node["needs"] or "a picture", **slots}))

    def unable(self, script: Script) -> None:
        """Pathology that none of the tools can do."""
        template, what = self._declined("unable")
        request = capital(template.fill(self.rng, self.wordings.slots(self.rng, self.split)))
        script.mark("unable", template.text)
        script.say("user", self.requests.frame(request, self.rng, self.split, "any"))
        script.say("assistant", self._refusal("unable", {"what": what}))

    def off_topic(self, script: Script) -> None:
        """Anything but pathology."""
        template, _ = self._declined("off_topic")
        script.mark("off_topic", template.text)
        script.say("user", self.requests.frame(capital(template.fill(self.rng, {})), self.rng, self.split, "any"))
        script.say("assistant", self._refusal("off_topic", {}))

    def plain(self, pair: Pair | None, script: Script) -> None:
        """A question that needs no tool: about the picture, a term, or the assistant itself."""
        if pair is not None and self.rng.random() < 0.5:
            questions = [e for e in exchanges(pair, self.rng, self.wordings, 4) if e.topic not in TOOL_TOPICS][:2]
            for e in questions:
                script.mark("plain", e.template)
                script.say("user", e.question)
                script.say("assistant", e.answer)
            if questions:
                return
        kind, question, answer = self._talk()
        script.mark("plain", question.text)
        text = capital(question.fill(self.rng, {}))
        script.say("user", self.requests.frame(text, self.rng, self.split, "any") if kind != "chat" else text)
        script.say("assistant", answer)

    def _talk(self) -> tuple[str, Template, str]:
        share = self.rng.random()
        if share < 0.5:
            node = self.wordings.load("glossary")
            template = self.rng.choice(templates(node["ask"], self.split))
            term, meaning = self.rng.choice(list(of_split(node["terms"], self.split).items()))
            return "term", Template(template.text.replace("{term}", term)), meaning
        kind = "knowledge" if share < 0.85 else "chat"
        question, answer = self.rng.choice(choices(self.wordings.load("plain")[kind], self.split))
        return kind, Template(question), answer

    def _declined(self, scenario: str) -> tuple[Template, str]:
        """A request for what no tool does: a whole wording, or a thing or an act in a general frame."""
        node = self.wordings.load("decline")
        kind = self.rng.choice(("requests", "things", "acts"))
        part = node[scenario] if kind == "requests" else node[kind][scenario]
        entry = self.rng.choice(choices(part, self.split, key=str))
        text, what = entry if isinstance(entry, list) else (entry, "")
        return self.requests.in_frame(kind, Template(text), self.rng, self.split), what

    def failed(self, tool: str, script: Script) -> None:
        """The tool runs and reports an error; the answer says so and invents no number."""
        request = self._request(tool)
        node, errors = self.node(tool), self.wordings.load("decline")["errors"]
        wording = self.rng.choice([*errors["any"], *errors.get(node["domain"], [])])
        error = Template(wording).fill(self.rng, {"needs": node["needs"] or "a picture"})
        script.mark("failed", request.template, tool)
        script.say("user", request.framed)
        script.say("assistant", "", tool_calls=[request.call])
        script.say("tool", f"{FAILED}{error}", tool=tool, error=error)
        script.say("assistant", self._refusal("failed", {"error": error}))

    def _request(self, tool: str) -> Request:
        return self.requests.draw(tool, self.rng, self.split, self.node(tool)["domain"])

    def _served(self, request: Request, pair: Pair | None, script: Script) -> None:
        script.say("assistant", "", tool_calls=[request.call])
        text, facts = self._result(request, pair)
        script.say("tool", text, tool=request.call.name)
        script.say("assistant", self._answer(request, facts))
        self.last = (facts, text)

    def _result(self, request: Request, pair: Pair | None) -> tuple[str, dict[str, str]]:
        if request.case is not None:
            return self._retrieved(request)
        node = self.node(request.call.name)
        facts = draw_result(request.call.name, request.call.arguments, self.rng, pair.label if pair else "")
        facts["notice"] = NOTICE
        if "empty_results" in node and self.rng.random() < EMPTY:
            return self._pick(node["empty_results"]).fill(self.rng, facts), {"empty": "yes"}
        kind = {"types": "typed_results", "points": "one_results", "box": "one_results"}.get(request.intent, "results")
        return self._pick(node.get(kind) or node["results"]).fill(self.rng, facts), facts

    def _retrieved(self, request: Request) -> tuple[str, dict[str, str]]:
        """A search result, the facts of its first fitting hit; now and then nothing is found."""
        case = request.case
        assert case is not None
        hits = list(case.hits)
        if self.rng.random() < 0.05:
            return result_text([], case.query), {"none": "yes"}
        if self.rng.random() < 0.04:
            hits[0] = replace(hits[0], retracted=True)
        best = hits[0]
        if self.rng.random() < 0.3:
            self.rng.shuffle(hits)
        listing = "; ".join(f"{h.title.rstrip('.?')} ({h.year}) [PMID {h.pmid}]" for h in hits)
        facts = {
            "finding": f"{case.finding} (The paper was retracted.)" if best.retracted else case.finding,
            "cite": f"[PMID {best.pmid}]",
            "pmid": best.pmid,
            "title": best.title.rstrip("."),
            "year": str(best.year),
        }
        return result_text(hits, case.query), {**facts, "n": str(len(hits)), "listing": listing}

    def _answer(self, request: Request, facts: dict[str, str]) -> str:
        answers = self.node(request.call.name)["answers"]
        intent = next((i for i in ("none", "empty") if i in facts), request.intent)
        return capital(self.rng.choice([Template(a) for a in answers[intent]]).fill(self.rng, facts))

    def _follow_up(self, tool: str, script: Script) -> None:
        facts, _ = self.last
        if "none" in facts or "empty" in facts:
            return
        question, answer = self.rng.choice(choices(self.node(tool)["follow_ups"], self.split))
        script.mark("follow_up", question)
        script.say("user", Template(question).fill(self.rng, facts))
        script.say("assistant", capital(Template(answer).fill(self.rng, facts)))

    def _refusal(self, scenario: str, slots: dict[str, str]) -> str:
        answers = self.wordings.load("decline")["answers"][scenario]
        return capital(Template(self.rng.choice(answers)).fill(self.rng, slots))

    def _pick(self, wordings: list[str]) -> Template:
        return Template(self.rng.choices(wordings, weights=FORMATS[: len(wordings)])[0])
