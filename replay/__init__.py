"""What can be known from a recorded journal, and would have been otherwise.

Read in this order:

    engine      fold again, compare every decision (`hafsm replay`)
    history     one director's files as a stream of moments: event, state before, state after, actions
    subjects    what a question can be about: VIP, real server, director, ping node, link
    evidence    facts beside a silence or a failed check; collected by `watch`, told by `words`
    causes      the graph of causes; its rules are causes_input, _cluster, _holding and _resources
    graph       a history becomes a graph
    why         from a change back to its evidence (`hafsm why`)
    holding     when a director had a VIP in its kernel
    side        what one director contributes to a merge: messages, decisions, VIPs, hand-overs
    merge       two directors' histories in one order of cause and effect, and their clocks
    findings    what only both sides show (`hafsm replay A B`); finding, findings_vips
    parameters  names of ha.cf and ldirectord.cf → changed settings
    whatif      the same inputs under other settings (`hafsm replay --set`); whatif_fold, episodes, pairing
    film        a history that can be stepped through, both ways (`hafsm replay --play`)

Everything here is pure but for reading files: values in, frozen values out. What screens look like is the commands'
business.
"""
