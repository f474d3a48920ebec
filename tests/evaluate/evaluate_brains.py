"""Brains for measuring the measuring: they answer by rule, and count how often they were asked."""

from dataclasses import dataclass, field

from pathasst.core.errors import BadInput
from pathasst.core.records import ToolCall, Turn


@dataclass
class RuleBrain:
    """Answers by a function of (words, images, tool names) that gives text or a list of calls."""

    rule: object
    name: str = "rule 1"
    sees: bool = True
    asked: list = field(default_factory=list)

    def reply(self, turns, images, tools):
        if any(not i for i in images):
            raise BadInput("the picture is empty")
        words = turns[-1].content.replace("<image>", "").strip()
        self.asked.append(words)
        said = self.rule(words, images, [t.name for t in tools])
        if isinstance(said, str):
            return Turn(role="assistant", content=said)
        return Turn(role="assistant", tool_calls=[ToolCall(name=n, arguments=a) for n, a in said])


@dataclass
class BatchBrain(RuleBrain):
    """The same with batches, as the local brain has them."""

    batches: list = field(default_factory=list)

    def reply_many(self, asked):
        self.batches.append(len(asked))
        return [self.reply(*one) for one in asked]
