"""What an operator reads when a command cannot be carried out."""

from ledgermq.remoting.errors import CallerError


class AdminError(CallerError):
    """A failed command.

    Attributes:
        problem: what happened, with the address or name concerned.
        next_step: what the operator can do now.
    """

    def __init__(self, problem: str, next_step: str) -> None:
        super().__init__(f"{problem}\n  {next_step}")
        self.problem = problem
        self.next_step = next_step


class TopicMissingError(AdminError):
    """The name server has no route for a topic."""

    def __init__(self, topic: str, name_server: str) -> None:
        super().__init__(
            f"the name server {name_server} knows no topic {topic}",
            f"List topics: mqadmin topicList -n {name_server}. Create it: mqadmin updateTopic"
            f" -n {name_server} -c <cluster> -t {topic}",
        )
