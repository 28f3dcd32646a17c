"""An incident of server19: 8 events of the 132 in server19.db.

0.000 s daemon_started {'generation':1,'wall_ns':1000000000000,'boot_id':'boot','same_boot':false,'version ...
0.001 s heartbeat_received {'link':0,'node':'server40','generation':1,'sequence':1,'status':'init','deadti ...
0.001 s kernel_observed {'action':3,'addresses':[]}
0.002 s action_finished {'action':5,'outcome':'done','detail':'stopped'}
0.003 s message_received {'link':0,'node':'server40','kind':'repnodes','generation':1,'sequence':5}
20.001 s heartbeat_received {'link':0,'node':'server40','generation':1,'sequence':23,'status':'active','de ...
48.001 s ping_answered {'ping':'192.168.2.251','host':'192.168.2.251'}
50.001 s ping_answered {'ping':'192.168.2.251','host':'192.168.2.251'}
"""

from pathlib import Path

from hafsm.testing import incident


def test_power_cut_of_the_primary() -> None:
    decision = incident(Path(__file__).with_name("power_cut_of_the_primary.db"))
    assert decision.reason == (
        "server40 is dead: nothing on eth0 for 30.0 s (deadtime 30.0 s); taking over foreign resources"
    )
    assert decision.effects == ["add_address"]
