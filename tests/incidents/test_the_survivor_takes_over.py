"""An incident of server19.example.com: 9 events of the 116 in night.db.

0.000 s daemon_started {'generation':1795560772,'wall_ns':1795560772522761080,'boot_id':'7d334c3d-c48b-407 ...
1.866 s kernel_observed {'action':3,'addresses':[]}
1.925 s action_finished {'action':5,'outcome':'done','detail':'stopped'}
2.394 s heartbeat_received {'link':0,'node':'server40.example.com','generation':1795560772,'sequence':3,'s ...
2.875 s message_received {'link':0,'node':'server40.example.com','kind':'repnodes','generation':1795560772 ...
12.391 s heartbeat_received {'link':0,'node':'server40.example.com','generation':1795560772,'sequence':18, ...
22.391 s heartbeat_received {'link':0,'node':'server40.example.com','generation':1795560772,'sequence':23, ...
27.150 s checks_reported {'plan':1,'results':[{'check':1,'ok':true,'duration_us':960}]}
32.392 s deadline_passed {}
"""

from pathlib import Path

from hafsm.testing import incident


def test_the_survivor_takes_over() -> None:
    decision = incident(Path(__file__).with_name("the_survivor_takes_over.db"))
    assert decision.reason == (
        "server40.example.com is dead: nothing on eth0 for 10.0 s (deadtime 10.0 s); taking over foreign resources"
    )
    assert decision.effects == ["add_address"]
