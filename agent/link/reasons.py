"""Every way a broker can turn the pile away, in one sentence each that names the broker and never the password."""

from agent import reach
from agent.link.config import LinkConfig

_LOGIN_FAULTS = {
    "Bad user name or password": "bad user name or password",
    "Not authorized": "not authorised (a wrong password, or this user may not connect)",
    "Client identifier not valid": "it does not accept this client id",
    "Server unavailable": "it is up but not available",
}


def dial_failed(config: LinkConfig, error: Exception) -> str:
    return f"{config.broker}: {reach.dial_fault(error, config.connect_timeout_s, config.tls is not None)}"


def tls_files(config: LinkConfig, error: reach.TlsFilesError) -> str:
    return f"{config.broker}: {error}"


def login_refused(config: LinkConfig, code: str, said: str) -> str:
    if code == "Unsupported protocol version":
        return f"{config.broker} does not speak MQTT {config.protocol}"
    who = (
        f"user {config.username}, client id {config.client_id}" if config.username else f"client id {config.client_id}"
    )
    return f"{config.broker} refused the login ({who}): {_LOGIN_FAULTS.get(code, _lower(code))}{_quoted(said)}"


def no_login_answer(config: LinkConfig) -> str:
    return f"{config.broker} took the connection but did not answer the login in {config.connect_timeout_s:g} s"


def dropped_at_login(config: LinkConfig, error_text: str) -> str:
    """Lost between CONNECT and CONNACK. A TLS 1.3 broker tells only now that it wanted a client certificate."""
    fault = reach.alert(error_text)
    if fault:
        return f"{config.broker}: {fault}"
    questions = (
        ["does it speak MQTT 5?"] if config.protocol == "5" else []
    )  # RabbitMQ 3.10 can't even read such a CONNECT
    if config.tls is None:
        questions.append("does this port want TLS?")
    elif config.tls.cert_file is None:
        questions.append("does it require a client certificate?")
    hint = f": {' '.join(questions)}" if questions else ""
    return f"{config.broker} closed the connection without answering the login{hint}"


def not_mqtt(config: LinkConfig) -> str:
    return f"{config.broker} does not speak MQTT {config.protocol}, or is no MQTT broker"


def subscription_refused(config: LinkConfig, code: str, said: str) -> str:
    # MQTT 3.1.1 has a single code for every failure, which paho calls this.
    why = "usually this user may not read that topic" if code == "Unspecified error" else _lower(code)
    return f"{config.broker} refused the subscription to {config.command_topic}: {why}{_quoted(said)}"


def no_subscription_answer(config: LinkConfig) -> str:
    return (
        f"{config.broker} did not answer the subscription to {config.command_topic} in {config.connect_timeout_s:g} s"
    )


def dropped_after_subscribe(config: LinkConfig, takes_messages: bool) -> str:
    """RabbitMQ 3.10 closes the connection instead of refusing; whether it took a message before narrows down why."""
    dropped = f"{config.broker} dropped the connection right after SUBSCRIBE to {config.command_topic}"
    if takes_messages:
        return (
            f"{dropped}, though it takes our messages: usually this user may not read that topic, "
            f"or may not log in with client id {config.client_id}"
        )
    return f"{dropped}: usually this user may not read that topic, or the broker's exchange is missing"


def takes_nothing(config: LinkConfig) -> str:
    """RabbitMQ 3.10 without its exchange: SUBSCRIBE drops the connection, a message is swallowed."""
    return (
        f"{config.broker} drops the connection after SUBSCRIBE to {config.command_topic}, and takes no message on "
        f"{config.status_topic} either: usually the broker's exchange is missing"
    )


def dropped_after_publish(config: LinkConfig, topic: str) -> str:
    return (
        f"{config.broker} dropped the connection right after PUBLISH to {topic}: "
        "usually this user may not write that topic"
    )


def publish_refused(config: LinkConfig, topic: str, code: str, said: str) -> str:
    return f"{config.broker} refused a message on {topic}: {_lower(code)}{_quoted(said)}"


def disconnected_by_broker(config: LinkConfig, code: str, said: str) -> str:
    if code == "Session taken over":
        return (
            f"{config.broker}: another client logged in with our client id {config.client_id} and took the session over"
        )
    return f"{config.broker} ended the connection: {_lower(code)}{_quoted(said)}"


def short_lived(config: LinkConfig) -> str:
    """MQTT 3.1.1 has no word for a take-over: the connection is closed, again and again."""
    return (
        f"{config.broker} closes the connection soon after every good login: "
        f"usually another client uses our client id {config.client_id}"
    )


def closed(config: LinkConfig, error_text: str) -> str:
    fault = reach.alert(error_text) or reach.errno_text(error_text)
    return f"{config.broker} closed the connection" if not fault else f"{config.broker}: {fault}"


def keepalive_missed(config: LinkConfig) -> str:
    return f"{config.broker} has been silent for {config.keepalive_s} s and did not answer a ping"


def unreadable(config: LinkConfig, error: Exception | None = None) -> str:
    detail = "" if error is None else f" ({type(error).__name__}: {error})"
    return f"{config.broker} sent something that is not MQTT {config.protocol}{detail}"


def stalled(config: LinkConfig, topic: str, waited_s: float) -> str:
    return f"{config.broker} did not acknowledge a message on {topic} in {waited_s:g} s"


def not_stored(config: LinkConfig) -> str:
    return f"{config.broker}: connection closed by us, because a command could not be stored; the broker keeps it"


def delivery_not_stored(config: LinkConfig, error: Exception) -> str:
    return f"{config.broker}: connection closed by us, because a delivery could not be recorded ({error})"


def _lower(code: str) -> str:
    return code[:1].lower() + code[1:]


def _quoted(said: str) -> str:
    """A broker's own words, of which nothing may reach the log but printable characters."""
    printable = "".join(c for c in said if c.isprintable())[:200]
    return f' ("{printable}")' if printable else ""
