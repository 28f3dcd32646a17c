"""An incident of server19.example.com: 9 events of the 135 in server19.db.

0.000 s daemon_started {'generation':1700001001,'wall_ns':1700001500000000000,'boot_id':'boot-1','same_boo ...
0.000 s heartbeat_received {'link':0,'node':'server40.example.com','generation':1700000001,'sequence':1,'s ...
0.002 s kernel_observed {'action':3,'addresses':[]}
0.003 s message_received {'link':0,'node':'server40.example.com','kind':'repnodes','generation':1700000001 ...
0.056 s action_finished {'action':5,'outcome':'done','detail':'stopped'}
20.000 s heartbeat_received {'link':0,'node':'server40.example.com','generation':1700000001,'sequence':25, ...
20.001 s ping_answered {'ping':'192.168.2.251','host':'192.168.2.251'}
48.001 s ping_answered {'ping':'192.168.2.251','host':'192.168.2.251'}
50.000 s deadline_passed {}
"""

from pathlib import Path

from hafsm.testing import incident


def test_power_cut_of_the_primary() -> None:
    decision = incident(Path(__file__).with_name("power_cut_of_the_primary.db"))
    assert decision.reason == (
        "server40.example.com is dead: nothing on eth0 for 30.0 s (deadtime 30.0 s); taking over foreign resources"
    )
    assert decision.effects == ["add_address"]
