"""PathAsst: from open literature to a pathology assistant of your own."""

__version__ = "0.1.0"
