"""Hooks of the documentation's site, for what plugins of MkDocs do not do; see mkdocs.yml.

The hooks make the pages of the reference and the tutorial, and link each public name to its
description. A public name without a description is a warning, which fails the build. Docstrings are
read, not imported, so the build needs no TensorFlow.
"""

import ast
import json
import pathlib
import re

import griffe
from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).resolve().parents[1]
LOG = get_plugin_logger("tfcredit")
TUTORIAL = "tutorial.ipynb"
FLAGS = "reference/flags.md"
HELP = ROOT / "build" / "flags.txt"
"""The output of `--help`, which `make docs` writes."""


def public_names(package: pathlib.Path) -> dict[str, list[str]]:
    """Returns the names that a user may import, by module.

    Args:
        package: The folder `tfcredit`.

    Returns:
        Module -> `__all__`, or all that is defined at the top level where it has none. The modules
        are those of `tfcredit.__all__`, whose functions have modules too, and four more.
    """
    found = {}
    there = {path.stem for path in package.iterdir()}
    modules = [name for name in _all_of(package) if name in there]
    for module in [*modules, "comparison", "connections", "errors", "report"]:
        path = package / module
        if path.is_dir():
            found[f"tfcredit.{module}"] = _all_of(path)
        else:
            names = [_defined(node) for node in ast.parse(path.with_suffix(".py").read_text()).body]
            found[f"tfcredit.{module}"] = [name for name in names if name and name[0] != "_"]
    return found


def _defined(node: ast.stmt) -> str:
    """Returns the name that a statement defines, or an empty string."""
    if isinstance(node, ast.Assign):
        return ast.unparse(node.targets[0])
    return getattr(node, "name", "")


def _all_of(package: pathlib.Path) -> list[str]:
    """Returns `__all__` of a package, of its stub where it imports its names lazily."""
    stub = package / "__init__.pyi"
    path = stub if stub.exists() else package / "__init__.py"
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    raise ValueError(f"{path} has no __all__.")


PUBLIC = public_names(ROOT / "tfcredit")


class Reading(griffe.Extension):
    """Adapts griffe to this package's docstrings and exports."""

    def on_object(self, *, obj: griffe.Object, **kwargs) -> None:
        """Reads `Example:` as Google's `Examples:`, whose code is shown as code."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"(?m)^Example:$", "Examples:", obj.docstring.value)

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **kwargs) -> None:
        """Makes `analysis.alignment` the function, as in Python, not the module of that name."""
        loader.resolve_aliases()
        for package in pkg.modules.values():
            for name in map(str, package.exports or ()):
                member = package.members[name]
                if member.is_module and name in member.members:
                    function = griffe.Alias(name, member[name], parent=package)
                    package.members[name] = function


def notebook_page(path: pathlib.Path) -> str:
    """Returns a notebook as Markdown: its text, code, printed output and figures."""
    parts = []
    for cell in json.loads(path.read_text())["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            shown = output.get("data", {"text/plain": output.get("text")})
            if "image/png" in shown:
                data = shown["image/png"].replace("\n", "")
                parts.append(f'<img alt="figure" src="data:image/png;base64,{data}">')
            else:
                text = "".join(shown["text/plain"]).rstrip()
                parts.append(f"```text\n{text}\n```")
    return "\n\n".join(parts)


def on_config(config):
    """Adds the reference at the end of the site's contents."""
    config.nav.append({"Reference": [*map(_page_of, PUBLIC), FLAGS]})
    return config


def on_files(files, config):
    """Adds the pages that have no file. The notebook stays beside its page as a download."""
    page = notebook_page(pathlib.Path(config.docs_dir, TUTORIAL))
    pages = {"tutorial.md": f"{page}\n\n[This page as a notebook]({TUTORIAL})\n"}
    pages |= {_page_of(module): f"# {module}\n\n::: {module}\n" for module in PUBLIC}
    pages[FLAGS] = f"# Flags of the command line\n\n```text\n{HELP.read_text()}```\n"
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def _page_of(module: str) -> str:
    return f"reference/{module.removeprefix('tfcredit.')}.md"


CODE = re.compile(
    r"<(?P<other>a|h\d|pre|autoref)\b.*?</(?P=other)>"  # stays as it is
    r"|<code>(?P<name>[A-Za-z_][\w.]*)(\([^<]*\))?</code>",
    re.DOTALL,
)


def on_page_content(html, page, config, files):
    """Makes a public name in code a link to its description."""
    own = f"tfcredit.{pathlib.Path(page.file.src_uri).stem}"

    def link(match):
        identifier = None if match["other"] else identifier_of(match["name"], own)
        if identifier is None:
            return match[0]
        return f'<autoref optional identifier="{identifier}">{match[0]}</autoref>'

    return CODE.sub(link, html)


def identifier_of(name: str, own: str) -> str | None:
    """Returns the full name that a page or docstring means.

    Args:
        name: `tfcredit.rules.get`, `rules.get`, or `get` on the page of its module; classes
            anywhere without module, `Rule.update`, if only one module has one of that name.
        own: The module that the page is of.

    Returns:
        The full name, or `None` if it is not a public name.
    """
    if name.startswith("tfcredit."):
        return name
    first, *rest = name.split(".")
    if rest and rest[0] in PUBLIC.get(f"tfcredit.{first}", ()):
        return f"tfcredit.{name}"
    homes = [module for module, names in PUBLIC.items() if first in names]
    if own in homes:
        return f"{own}.{name}"
    return f"{homes[0]}.{name}" if len(homes) == 1 and first[0].isupper() else None


def on_post_build(config):
    """Warns of public names without a description."""
    for module, names in PUBLIC.items():
        html = pathlib.Path(config.site_dir, _page_of(module)).with_suffix(".html").read_text()
        for name in names:
            if f'id="{module}.{name}"' not in html:
                LOG.warning("%s.%s is described nowhere: give it a docstring.", module, name)
