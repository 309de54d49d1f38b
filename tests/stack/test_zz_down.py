"""Last of all: down ends exactly what up started."""

import socket

import psutil


def test_down_leaves_no_process_and_no_listening_port(stack, env, processes):
    ports = [int(env["KAFKA_BOOTSTRAP"].rpartition(":")[2])]
    ports += [
        int(env[name].rpartition(":")[2].split("/")[0])
        for name in env
        if name.endswith("_URL") and "http" in env[name]
    ]
    assert processes(psutil.Process.name)
    stack.make("down")
    assert processes(psutil.Process.name) == []
    for port in ports:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0, port
    assert "Nothing was running." in stack.make("down").stdout
