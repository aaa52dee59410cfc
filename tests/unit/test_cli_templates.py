"""Templates of `--format`: the part of Go's that lines need."""

from typing import Any

import pytest

from docker_job.cli.templates import Labels, Template, TemplateError

JOB: dict[str, Any] = {
    "ID": "7",
    "Name": "nightly",
    "exit_code": 0,
    "started_at": None,
    "read_only": False,
    "labels": Labels({"team": "data", "my-key": "v"}),
    "attempts": [{"number": 1, "cause": "lost"}, {"number": 2, "cause": "done"}],
}


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        (r"{{.ID}}\t{{.Name}}", "7\tnightly"),
        ("{{ .ID }}", "7"),
        ("{{.ExitCode}} {{.exit_code}} {{.exitcode}}", "0 0 0"),
        ("{{.StartedAt}}", ""),
        ("{{.ReadOnly}}", "false"),
        ("{{.Labels.team}}", "data"),
        ("{{.Labels.my-key}}", "v"),
        ("{{.Labels.absent}}", ""),
        ("{{json .Labels}}", '{"team": "data", "my-key": "v"}'),
        ("{{json .Name}}", '"nightly"'),
        ("{{upper .Name}} {{.Name | upper | lower}}", "NIGHTLY nightly"),
        ('{{join .Labels ", "}}', "team=data, my-key=v"),
        ("{{truncate .Name 3}}", "nig"),
        ("{{len .Attempts}}", "2"),
        ("{{(index .Attempts 1)}}", '{"number": 2, "cause": "done"}'),
        ("{{(index .Attempts 1).Cause | upper}}", "DONE"),
        ("{{if .Name}}a{{else}}b{{end}}", "a"),
        ("{{if .StartedAt}}a{{else}}b{{end}}", "b"),
        ('{{if eq .Name "x"}}a{{else if eq .ID "7"}}b{{else}}c{{end}}', "b"),
        ("{{if not .ReadOnly}}rw{{end}}", "rw"),
        ("{{range .Attempts}}{{.Number}}:{{.Cause}} {{end}}", "1:lost 2:done "),
        ("{{range .Attempts}}{{$.ID}}{{end}}", "77"),
        ("{{with .Labels}}{{.team}}{{end}}", "data"),
        ("a {{- .ID -}} b", "a7b"),
        ("no action", "no action"),
        (r"\\t", r"\t"),
        ('{{print "a|b" .ID}}', "a|b7"),
    ],
)
def test_a_template_is_rendered_as_go_would(template: str, shown: str) -> None:
    assert Template.parse(template).render(JOB) == shown


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{.Nmae}}", "there is no field .Nmae"),
        ("{{.Name.first}}", "there is no field .first in 'nightly'"),
        ("{{.ID", "not closed"),
        ("{{}}", "empty"),
        ("{{Name}}", "'Name' is not expected"),
        ("{{name}}", "there is no function 'name'"),
        ("{{.ID | .Name}}", "after | comes a function"),
        ("{{.ID .Name}}", ".Name is not expected"),
        ("{{if .ID}}x", "has no {{end}}"),
        ("x{{end}}", "without an if"),
        ("{{truncate .Name}}", "cannot be used so"),
        ("{{(upper .Name}}", "parenthesis"),
        ("{{.ID @}}", "cannot be read at @"),
    ],
)
def test_a_mistake_is_named(template: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Template.parse(template).render(JOB)
    assert message in caught.value.what
    assert caught.value.code == 2


def test_a_field_that_there_is_not_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(TemplateError) as caught:
        Template.parse("{{.Nmae}}").render(JOB)
    assert caught.value.hint.startswith("The fields are .ID, .Name, .ExitCode, .StartedAt")
