"""The few exceptions that PathAsst raises on purpose. Each message tells a person what to do next."""


class PathAsstError(Exception):
    """Base of every error this package raises on purpose; the command line prints it without a traceback.

    `remedy`: a last sentence for whoever runs the program, which the text that others see leaves out.
    """

    def __init__(self, message: str = "", *, remedy: str = "") -> None:
        super().__init__(f"{message} {remedy}" if remedy else message)
        self.remedy = remedy


class BadInput(PathAsstError):
    """One item (article, image, caption, row …) cannot be used. Stages count it, report it and go on."""


class BadSettings(PathAsstError):
    """A recipe, option or argument is wrong; nothing was started."""


class BadDataset(PathAsstError):
    """A dataset folder is missing, damaged, or was made with other settings."""


class MissingWeights(PathAsstError):
    """A model's files are not on this machine; the message holds the command that fetches them."""


class MissingPackage(PathAsstError):
    """An optional package is needed; the message holds the install command."""


class Unreachable(PathAsstError):
    """A server did not answer, or answered with an error, after the allowed retries."""


class OverBudget(PathAsstError):
    """The next paid call would pass the allowed cost; what was paid for is kept."""
