"""The built-in tools pass the tests that LangChain has for every tool."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from langchain_core.tools import BaseTool
from langchain_tests.integration_tests import ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests

from plan_execute.tools.command import command_tool
from plan_execute.tools.files import file_tools
from plan_execute.tools.http import http_tool


class _OfAFolder:
    """A tool of a folder with one file, ``tea.txt``."""

    name: ClassVar[str]
    args: ClassVar[dict[str, Any]]

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        (tmp_path / "tea.txt").write_text("green\n")
        self._root = tmp_path

    @property
    def tool_constructor(self) -> BaseTool:
        made = [*file_tools(self._root), command_tool(self._root, ["python"])]
        return next(tool for tool in made if tool.name == self.name)

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return self.args


class _ListFiles(_OfAFolder):
    name, args = "list_files", {"pattern": "*.txt"}


class _ReadFile(_OfAFolder):
    name, args = "read_file", {"path": "tea.txt"}


class _FindInFiles(_OfAFolder):
    name, args = "find_in_files", {"text": "green"}


class _WriteFile(_OfAFolder):
    name, args = "write_file", {"path": "cup.txt", "text": "full"}


class _RunCommand(_OfAFolder):
    name, args = "run_command", {"command": ["python", "-I", "-S", "-c", "print(1)"]}


class _HttpGet:
    """The tool that fetches a page, and a page on loopback."""

    @pytest.fixture(autouse=True)
    def _server(self, tmp_path: Path) -> Iterator[None]:
        (tmp_path / "tea.txt").write_text("green\n")
        handler = partial(_Quiet, directory=str(tmp_path))
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
            self._url = f"http://127.0.0.1:{server.server_port}/tea.txt"
            yield
            server.shutdown()

    @property
    def tool_constructor(self) -> BaseTool:
        return http_tool(allow_hosts=["127.0.0.1"])

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return {"url": self._url}


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class TestListFilesUnit(_ListFiles, ToolsUnitTests): ...


class TestListFiles(_ListFiles, ToolsIntegrationTests): ...


class TestReadFileUnit(_ReadFile, ToolsUnitTests): ...


class TestReadFile(_ReadFile, ToolsIntegrationTests): ...


class TestFindInFilesUnit(_FindInFiles, ToolsUnitTests): ...


class TestFindInFiles(_FindInFiles, ToolsIntegrationTests): ...


class TestWriteFileUnit(_WriteFile, ToolsUnitTests): ...


class TestWriteFile(_WriteFile, ToolsIntegrationTests): ...


class TestRunCommandUnit(_RunCommand, ToolsUnitTests): ...


class TestRunCommand(_RunCommand, ToolsIntegrationTests): ...


class TestHttpGetUnit(_HttpGet, ToolsUnitTests): ...


class TestHttpGet(_HttpGet, ToolsIntegrationTests): ...
