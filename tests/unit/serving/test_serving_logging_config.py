import json
import logging
import sys

from transect.serving.logging_config import JsonFormatter


def test_a_record_is_one_line_of_json_with_its_extras() -> None:
    record = logging.getLogger("transect.x").makeRecord(
        "transect.x", logging.INFO, "file", 1, "saw %s", ("a\nb",), None, extra={"status": 200}
    )
    text = JsonFormatter().format(record)
    line = json.loads(text)
    assert "\n" not in text
    assert (line["message"], line["status"], line["level"], line["logger"]) == ("saw a\nb", 200, "INFO", "transect.x")


def test_an_exception_stays_on_the_same_line() -> None:
    try:
        int("broken")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "file", 1, "failed", (), sys.exc_info())
    text = JsonFormatter().format(record)
    assert "\n" not in text
    assert "ValueError: invalid literal" in json.loads(text)["exception"]
