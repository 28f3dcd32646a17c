"""An incident of server19.example.com: 9 events of the 127 in night.db.

0.000 s daemon_started {'generation':1795559122,'wall_ns':1795559122355358437,'boot_id':'1cd8fb76-4593-41f ...
3.914 s kernel_observed {'action':3,'addresses':[]}
4.083 s action_finished {'action':7,'outcome':'done','detail':'stopped'}
10.552 s heartbeat_received {'link':0,'node':'server40.example.com','generation':1795559122,'sequence':17, ...
11.085 s checks_reported {'plan':1,'results':[{'check':0,'ok':true,'duration_us':1219}]}
20.794 s checks_reported {'plan':1,'results':[{'check':1,'ok':true,'duration_us':1208}]}
26.554 s heartbeat_received {'link':0,'node':'server40.example.com','generation':1795559122,'sequence':25, ...
30.876 s checks_reported {'plan':1,'results':[{'check':1,'ok':true,'duration_us':1577}]}
36.555 s deadline_passed {}
"""

from pathlib import Path

from hafsm.testing import incident


def test_the_survivor_takes_over() -> None:
    decision = incident(Path(__file__).with_name("the_survivor_takes_over.db"))
    assert decision.reason == (
        "server40.example.com is dead: nothing on eth0 for 10.0 s (deadtime 10.0 s); taking over foreign resources"
    )
    assert decision.effects == ["add_address"]
