"""Something else answers in AWS's place, as a proxy does: the call may have had its effect."""

from collections.abc import Iterator
from email.message import Message

import pytest

from shared.compute.ec2.client import Aws
from shared.compute.port import Unknown
from tests.support.deploy.instance_world import SmallServer

PAGE = "<!doctype html>\n<title>500 Internal Server Error</title>\n<p>" + "long " * 1000


class Proxy(SmallServer):
    """A server of pages."""

    def answer(self, method: str, path: str, headers: Message, body: str) -> tuple[int, str]:
        return 500, PAGE


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    proxy = Proxy()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    yield Aws("us-east-1")
    proxy.close()


async def test_a_page_is_an_answer_that_is_not_known(aws: Aws) -> None:
    with pytest.raises(Unknown) as caught:
        await aws.call("DescribeInstances")
    assert "the answer is not AWS's" in str(caught.value)
    assert len(str(caught.value)) < 400
