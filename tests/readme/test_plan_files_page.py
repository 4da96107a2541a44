"""What docs/plan-files.md shows works: its blocks are run in a temporary folder, from top to bottom."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from openai_stub import OpenAIStub, Reply
from plans import draft, draft_step

CHECKOUT = Path(__file__).parents[2]
PAGE = (CHECKOUT / "docs/plan-files.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
DRAFT = draft(
    draft_step("weather", "get_weather", {"city": "Oslo"}),
    draft_step("report", "save_report", {"path": "oslo.txt", "text": "${weather.temp_c}"}),
)


def blocks(language):
    return [text for found, text in BLOCKS if found == language]


class Shell:
    """A folder with the files that the page shows, and a model for what it plans."""

    def __init__(self, folder, stub):
        self.folder = folder
        program = shutil.which("plan-execute", path=str(Path(sys.executable).parent))
        assert program, "plan-execute is not installed next to this Python"
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("PLAN_EXECUTE_")}
        self.env |= {
            "PLAN_EXECUTE_DB": str(folder / "threads.db"),
            "PATH": f"{Path(program).parent}{os.pathsep}{os.environ['PATH']}",
            "PLAN_EXECUTE_MODEL": "openai:stub",
            "PLAN_EXECUTE_BASE_URL": stub.base_url,
        }
        for text in [*blocks("python"), *blocks("yaml")]:
            name = re.match(r"# ([\w.]+)\n", text)[1]
            (folder / name).write_text(text, encoding="utf-8")

    def run(self, line):
        if line.startswith("export "):
            self.env |= dict(word.split("=", 1) for word in shlex.split(line)[1:])
            return 0, ""
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
        )
        return done.returncode, done.stdout + done.stderr


@pytest.mark.timeout(400)
def test_the_page_runs_from_top_to_bottom(tmp_path):
    with OpenAIStub(lambda body: Reply.json(DRAFT) if body.get("response_format") else Reply("done")) as stub:
        shell = Shell(tmp_path, stub)
        said = {}
        for line in "".join(blocks("sh")).splitlines():
            command, _, comment = line.partition("  #")
            expected = re.search(r"exit code (\d+)", comment)
            code, said[command.strip()] = shell.run(command.strip())
            assert code == (int(expected[1]) if expected else 0), f"{command}\n{said[command.strip()]}"
        assert blocks("text")[0] in said["plan-execute validate broken.yaml"]
        assert (tmp_path / "report.txt").read_text(encoding="utf-8") == "Rome: 21 °C, 1 day(s)"
        assert (tmp_path / "oslo.txt").read_text(encoding="utf-8") == "Oslo: 4 °C, 1 day(s)"

        (cron,) = "".join(blocks("cron")).splitlines()
        command = cron.split(maxsplit=5)[5].replace("\\%", "%").replace("/srv/report", str(tmp_path))
        assert shell.run(command)[0] == 0
        (report,) = tmp_path.glob("2*.txt")
        assert report.read_text(encoding="utf-8") == "Rome: 21 °C, 1 day(s)"
        assert '"status": "done"' in (tmp_path / "report.log").read_text(encoding="utf-8")
        planned = [request for request in stub.requests if request.body.get("response_format")]
        assert len(planned) == 1, "only the command `plan` asks a model to plan"


def test_every_command_and_option_on_the_page_exists():
    from plan_execute.cli.app import app

    known = {command.name for command in app.registered_commands}
    named = set(re.findall(r"plan-execute ([a-z]+)", PAGE))
    assert named <= known, named - known


def test_no_block_is_of_a_language_that_nothing_runs():
    assert {language for language, _ in BLOCKS} <= {"python", "yaml", "sh", "text", "cron"}
