"""Drives one kernel as a front end does: reads {"cwd", "requests", "kernel"?} as JSON from standard input, prints one answer per request."""
import json
import os
import sys
import threading
import time

from jupyter_client.manager import KernelManager


def collect(client, code, interrupt=None, how="signal"):
    outputs = []

    def hook(message):
        kind = message["header"]["msg_type"]
        if kind != "status":
            outputs.append({"type": kind, **message["content"]})

    if interrupt is not None:
        def send():
            if how == "signal":
                manager.interrupt_kernel()
            else:
                client.control_channel.send(client.session.msg("interrupt_request", {}))
        threading.Timer(interrupt, send).start()
    begin = time.monotonic()
    reply = client.execute_interactive(code, output_hook=hook, timeout=100, allow_stdin=False)
    return {"reply": reply["content"], "outputs": outputs, "seconds": time.monotonic() - begin}


def shell(client, message_id):
    while True:
        reply = client.get_shell_msg(timeout=60)
        if reply["parent_header"].get("msg_id") == message_id:
            return reply["content"]


# The kernel inherits standard output, and Node makes a pipe non-blocking for all who hold it: keep it from the kernel.
answer_to = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
work = json.load(sys.stdin)
manager = KernelManager(kernel_name=work.get("kernel", "kernel-lib"))
begin = time.monotonic()
manager.start_kernel(cwd=work["cwd"])
client = manager.client()
client.start_channels()
client.wait_for_ready(timeout=60)
answers = [{"ready": time.monotonic() - begin}]
try:
    for request in work["requests"]:
        if "execute" in request:
            answers.append(collect(client, request["execute"], request.get("interrupt"), request.get("how", "signal")))
        elif "complete" in request:
            answers.append(shell(client, client.complete(request["complete"], request.get("at"))))
        elif "inspect" in request:
            answers.append(shell(client, client.inspect(request["inspect"], request.get("at"))))
        elif "isComplete" in request:
            answers.append(shell(client, client.is_complete(request["isComplete"])))
        elif "info" in request:
            answers.append(shell(client, client.kernel_info()))
        elif "together" in request:
            answers.append([shell(client, message_id) for message_id in [client.execute(code) for code in request["together"]]])
    print(json.dumps(answers), file=answer_to, flush=True)
finally:
    client.stop_channels()
    manager.shutdown_kernel(now=False)
    if manager.has_kernel and manager.is_alive():
        sys.exit("the kernel did not end when told to")
