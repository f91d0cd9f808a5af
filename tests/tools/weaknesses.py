"""Weaknesses that were published of servers like this one, what is done here instead, and the tests that try it.

`python -m tests.tools.weaknesses --write` writes the page docs/about/weaknesses.md.
"""

import ast
import sys
from collections.abc import Sequence
from typing import NamedTuple

from tests.tools.need import ROOT

PAGE = ROOT / "docs" / "about" / "weaknesses.md"
BEGIN, END = "<!-- weaknesses: python -m tests.tools.weaknesses --write -->\n\n", "\n\n<!-- weaknesses end -->"


class Weakness(NamedTuple):
    """what: it was. where: the products, each with its ids, confirmed in an advisory; empty where there is none.

    here: what is done instead. tests: files below tests/, and functions in them.
    """

    what: str
    where: str
    here: str
    tests: Sequence[tuple[str, str]]


OWN = "promises/test_weaknesses.py"
HTTP = "transports/test_http.py"
LIMITS = "websocket/test_limits.py"
FLOODS = "transports/test_floods.py"
AI = "endpoints/ai/test_rights.py"
CLIENTS = "endpoints/ai/test_messages_of_clients.py"
RETURNING = "endpoints/socketio/test_returning.py"
PACKETS = "dialects/socketio/test_packets.py"
FUZZ = ("fuzz/test_fuzz.py", "test_no_input_fails_of_a_few_hundred")

LISTED = [
    Weakness(
        "A message without a limit, or one that the default leaves open",
        "ws CVE-2016-10542, Daphne CVE-2026-44545",
        "bounded by default, held against the header of a frame before any of it is kept",
        [
            (OWN, "test_what_is_too_large_is_refused_by_the_defaults_however_it_comes"),
            (LIMITS, "test_the_default_limits_of_a_server_are_limits"),
            (LIMITS, "test_a_limit_allows_itself_and_no_more"),
        ],
    ),
    Weakness(
        "Tiny fragments, or a frame that comes in drops, cost many times their bytes",
        "ws, aiohttp",
        "one buffer for a message; fragments are counted; at most twice the limit is held",
        [
            (LIMITS, "test_tiny_fragments_cost_their_bytes_and_not_an_object_each"),
            (LIMITS, "test_a_flood_of_fragments_ends_at_their_count"),
            (LIMITS, "test_a_frame_that_comes_in_drops_costs_no_more_than_twice_its_limit"),
        ],
    ),
    Weakness(
        "A compression bomb, also before authentication",
        "uws CVE-2016-10544, websockets CVE-2018-1000518, NATS CVE-2026-27571",
        "off by default; inflated up to the limit of a message and not a byte more, those of many a portion a turn",
        [
            (OWN, "test_a_compression_bomb_is_not_inflated"),
            ("promises/test_hostile_http.py", "test_a_body_that_claims_to_be_compressed_is_not_inflated"),
            ("websocket/test_deflate.py", "test_a_bomb_costs_no_more_memory_than_the_limit"),
            (FLOODS, "test_of_many_who_send_much_at_once_each_waits_until_there_is_time"),
        ],
    ),
    Weakness(
        "A compressed frame where nobody agreed on compression; a window outside 8 to 15",
        "aiohttp, undici",
        "1002; such an offer is declined",
        [
            (OWN, "test_a_frame_that_claims_compression_that_nobody_agreed_on_is_refused"),
            ("websocket/test_deflate.py", "test_an_offer_that_cannot_be_met_is_declined_and_the_next_is_tried"),
        ],
    ),
    Weakness(
        "A length that overflows, or sets a count back",
        "gorilla/websocket CVE-2020-27813, NATS CVE-2026-27889",
        "1002 or 1009 from the header alone",
        [
            (OWN, "test_a_length_that_overflows_passes_no_limit"),
            (LIMITS, "test_a_limit_counts_a_message_through_the_control_frames_in_it"),
        ],
    ),
    Weakness(
        "A malformed frame, packet or request ends the process",
        "engine.io CVE-2022-21676 and CVE-2022-41940, Socket.IO CVE-2024-38355, Hocuspocus",
        "each dialect raises a documented close and nothing else, whatever the bytes",
        [
            (OWN, "test_a_broken_frame_ends_its_client_alone"),
            FUZZ,
            ("promises/test_hostile.py", "test_many_hostile_clients_cost_no_memory_and_nobody_else_notices"),
            ("promises/test_hostile.py", "test_what_is_no_handshake_opens_nothing_and_breaks_nothing"),
            ("promises/test_hostile_http.py", "test_what_is_malformed_ends_its_client_alone"),
            ("contracts/dialect.py", "test_any_bytes_give_commands_or_a_disconnect"),
            (AI, "test_a_body_of_any_shape_is_answered_and_no_error_of_ours"),
        ],
    ),
    Weakness(
        "A field of another type than expected",
        "socket.io-parser CVE-2022-2421 and CVE-2023-32695",
        "every field is checked against its type when it is decoded",
        [
            (PACKETS, "test_a_malformed_packet_is_refused"),
            (PACKETS, "test_attachments_that_do_not_fit_are_refused"),
            FUZZ,
        ],
    ),
    Weakness(
        "Any number of attachments is waited for",
        "socket.io-parser CVE-2026-33151",
        "bounded by what so many cost, and together in size",
        [
            (PACKETS, "test_attachments_are_limited_by_what_so_many_cost"),
            (PACKETS, "test_attachments_are_limited_in_size"),
        ],
    ),
    Weakness(
        "What was half received is kept when its client is gone",
        "python-socketio CVE-2026-48804",
        "it belongs to the connection",
        [
            (OWN, "test_half_a_binary_event_is_gone_with_its_client"),
            (LIMITS, "test_what_was_half_received_is_let_go_at_the_end"),
        ],
    ),
    Weakness(
        "A body of 100 MB by long polling, parsed in quadratic time",
        "engine.io CVE-2020-36048",
        "413 before it is read; packets are split once",
        [
            (OWN, "test_a_body_that_is_too_large_is_not_read"),
            ("endpoints/socketio/test_engine.py", "test_a_body_that_is_too_large_is_refused"),
            (PACKETS, "test_a_malformed_packet_takes_time_in_proportion_to_its_length"),
        ],
    ),
    Weakness(
        "A task for each pong, a thread for each message",
        "python-engineio CVE-2026-48802, Mesop CVE-2026-34824",
        "no task per client, and none per message",
        [
            (OWN, "test_pongs_and_pings_start_nothing"),
            ("endpoints/socketio/test_engine.py", "test_pongs_cost_nothing"),
        ],
    ),
    Weakness(
        "What comes from a broker is unpickled, and run",
        "python-socketio CVE-2025-61765",
        "MessagePack of known types; all else is counted and left out",
        [
            (OWN, "test_nothing_that_comes_from_elsewhere_can_be_run"),
            ("engines/redis/test_faults.py", "test_what_a_stranger_publishes_on_its_topics_is_ignored_and_counted"),
            ("engines/nats/test_faults.py", "test_garbage_on_our_subjects_is_counted_and_left_out"),
            FUZZ,
        ],
    ),
    Weakness(
        "Headers without end: their number, their size, repeated ones that are joined in quadratic time",
        "ws CVE-2024-37890, Tornado CVE-2025-67725, tungstenite CVE-2023-43669",
        "counted and measured while they arrive; 431",
        [
            (OWN, "test_two_thousand_headers_are_refused_everywhere"),
            (OWN, "test_a_handshake_of_many_megabytes_costs_none"),
            (HTTP, "test_a_request_beyond_a_bound_is_refused_before_it_is_all_in_memory"),
        ],
    ),
    Weakness(
        "A query of thousands of fields, each of which is decoded",
        "Tornado",
        "at most 1000 fields; 400 before any of them is looked at",
        [
            ("endpoints/test_opening.py", "test_a_query_of_thousands_of_fields_is_refused_before_it_is_decoded"),
            ("policy/test_sigv4.py", "test_a_query_of_thousands_of_fields_is_refused_before_it_is_decoded"),
        ],
    ),
    Weakness(
        "Trailers without end, or taken for headers",
        "aiohttp CVE-2026-22815",
        "bounded as the head is; a trailer is no header",
        [
            (HTTP, "test_what_is_no_body_of_a_body_in_chunks_is_bounded_too"),
            (HTTP, "test_a_trailer_is_no_header"),
        ],
    ),
    Weakness(
        "A subprotocol that takes quadratic time, or ends the worker",
        "ws CVE-2021-32640, Granian CVE-2026-42544",
        "split at commas; what is no token is refused with 400",
        [
            (OWN, "test_a_subprotocol_that_is_none_is_refused"),
            ("websocket/test_handshake.py", "test_a_long_run_of_spaces_takes_time_in_proportion"),
            ("endpoints/durable/test_record.py", "test_what_is_no_media_type_is_refused_at_once"),
        ],
    ),
    Weakness(
        "What is a line end in Unicode makes a second header",
        "Daphne CVE-2026-44546",
        "heads are bytes, split at CRLF alone",
        [
            (OWN, "test_a_subprotocol_that_is_none_is_refused"),
            ("websocket/test_handshake.py", "test_what_is_a_line_end_elsewhere_is_part_of_a_value_here"),
            ("websocket/test_handshake.py", "test_a_subprotocol_cannot_be_made_a_second_header"),
        ],
    ),
    Weakness(
        "A request that two parsers read differently (smuggling), a second Host",
        "aiohttp CVE-2024-52304, CVE-2025-53643 and CVE-2026-34525",
        "two lengths, two Hosts, other codings: 400; fuzzed against another parser",
        [
            (OWN, "test_a_request_that_two_parsers_could_read_differently_is_refused"),
            ("transports/test_two_ways.py", "test_the_short_way_and_the_long_one_read_the_same_bytes_alike"),
            ("transports/test_pipelining.py", "test_a_websocket_is_not_opened_while_a_response_is_owed"),
            FUZZ,
        ],
    ),
    Weakness(
        "Requests that come slowly, or never",
        "the Slowloris attack",
        "deadlines for head and body; who sent no request makes room for who comes",
        [
            (HTTP, "test_a_request_that_does_not_arrive_in_time_is_ended"),
            (HTTP, "test_dribbling_does_not_extend_the_deadline"),
            (HTTP, "test_silent_connections_make_room_for_those_who_come"),
            (OWN, "test_who_never_says_who_it_is_is_closed"),
            ("promises/test_hostile.py", "test_a_client_that_never_says_who_it_is_is_sent_away_as_stale"),
        ],
    ),
    Weakness(
        "Answers that nobody reads are kept",
        "the slow read attack",
        "who takes nothing for a while is cut, whatever he asked for; who reads slowly is not",
        [
            (HTTP, "test_who_asks_and_does_not_read_is_cut_when_it_has_taken_nothing_for_a_while"),
            ("transports/test_stream_unit.py", "test_a_client_that_does_not_read_the_end_either_is_a_client_no_longer"),
            ("promises/test_hostile.py", "test_a_client_that_does_not_read_is_cut_and_the_others_get_everything"),
        ],
    ),
    Weakness(
        "Requests that are begun and cut, or sent ahead without end, take the loop from all others",
        "HTTP/2 servers CVE-2023-44487",
        "a portion of them in each turn, address by address; what is cut leaves nothing that has to be collected",
        [
            ("transports/test_turns.py", "test_requests_of_many_connections_are_answered_a_portion_a_turn"),
            ("transports/test_pipelining.py", "test_requests_of_many_connections_begin_a_portion_a_turn"),
            ("transports/test_garbage.py", "test_what_is_over_leaves_nothing_that_only_a_collection_finds"),
            ("runtime/test_fair_queue.py", "test_each_address_has_its_turn_however_much_another_one_asks_for"),
        ],
    ),
    Weakness(
        "What is sent to many, or by many at once, is dealt with before anybody else has a turn",
        "",
        "so many bytes in a turn, of what comes in as of what goes out; who was told the end is soon read no more",
        [
            ("session/test_portions.py", "test_what_all_get_goes_to_a_portion_of_them_in_a_turn"),
            (
                "session/test_behind.py",
                "test_who_is_behind_takes_turns_with_others_who_are_and_waits_for_all_who_are_not",
            ),
            ("promises/test_busy.py", "test_much_waits_while_the_process_is_busy_by_every_door_of_clients"),
            ("transports/test_saturation.py", "test_sessions_are_opened_a_few_in_each_turn_busy_or_not"),
            (FLOODS, "test_of_large_frames_so_many_bytes_are_looked_at_in_a_turn_and_no_more"),
            (FLOODS, "test_of_many_who_send_much_at_once_each_waits_until_there_is_time"),
            (FLOODS, "test_who_goes_on_sending_though_it_was_told_the_end_is_not_read_any_more"),
        ],
    ),
    Weakness(
        "A page of another origin connects with the user's cookies (cross-site WebSocket hijacking)",
        "python-engineio CVE-2019-13611, Socket.IO",
        "origins are compared as a whole, on every door; see [Who may open what](access.md)",
        [
            ("endpoints/test_matrix.py", "test_a_foreign_page_opens_nothing_by_any_way_in"),
            ("policy/test_origin.py", "test_a_page_may_connect_or_not"),
        ],
    ),
    Weakness(
        "A password whose comparison takes the longer the more of it is right",
        "websockets CVE-2021-33880",
        "compared in constant time",
        [(OWN, "test_secrets_are_compared_in_constant_time")],
    ),
    Weakness(
        "A URL for keys that is made of a token nobody has checked",
        "Centrifugo CVE-2026-32301",
        "nothing that a token says of keys is followed",
        [
            ("endpoints/test_matrix.py", "test_nothing_but_a_valid_token_opens_anything"),
            ("policy/test_keys.py", "test_what_a_header_says_of_keys_is_not_followed"),
            ("policy/test_tokens.py", "test_whatever_a_header_holds_only_a_signature_with_the_secret_passes"),
        ],
    ),
    Weakness(
        "Two names with one key in a cache or a broker",
        "Mercure CVE-2026-39972",
        "keys are tuples, or encoded so that they have one reading",
        [
            ("contracts/engine.py", "test_any_name_is_a_channel_of_its_own"),
            (AI, "test_what_another_user_repeats_is_not_answered_with_the_first_ones_run"),
        ],
    ),
    Weakness(
        "A log line for each bad request",
        "Tornado CVE-2025-47287",
        "a line per kind and interval, with how many were left out",
        [
            (HTTP, "test_the_log_says_which_bound_it_was_and_not_once_per_request"),
            (
                "observe/test_logs.py",
                "test_a_kind_is_written_once_per_interval_and_the_next_line_says_how_many_were_left_out",
            ),
        ],
    ),
    Weakness(
        "A rule that another one, or a combination, lets pass by",
        "NATS",
        "one rule for a channel; what no rule matches does not exist; a Deny of an authorizer comes first",
        [
            ("policy/test_rights.py", "test_a_rule_says_who_subscribes_without_a_token"),
            ("policy/test_rights.py", "test_a_rule_says_who_publishes_and_who_reads"),
            ("endpoints/gateway/test_authorizer.py", "test_a_deny_comes_before_whatever_else_allows_it"),
        ],
    ),
    Weakness(
        "Names of the server's own, such as topics of a broker's own state, that clients may use as well",
        "",
        "what is kept beside channels begins with NUL, and no name that does is a channel's, however wide a rule is",
        [
            ("promises/test_own_logs.py", "test_no_command_of_centrifuge_reaches_one"),
            ("promises/test_own_logs.py", "test_no_url_reaches_one"),
            ("promises/test_own_logs.py", "test_no_socket_reaches_one"),
        ],
    ),
    Weakness(
        "The host that a client asks for is taken for the server's own, and what is for others is sent there",
        "",
        "a name that clients give counts where `hosts` says which there are",
        [("endpoints/gateway/test_events.py", "test_no_client_says_where_back_ends_send_what_is_for_others")],
    ),
    Weakness(
        "A request that is cut is taken for a whole one",
        "",
        "a client that goes within its body has said nothing",
        [
            ("promises/test_cut_requests.py", "test_half_of_a_request_does_nothing"),
            ("promises/test_cut_requests.py", "test_a_connection_that_is_cut_within_a_request_does_nothing"),
        ],
    ),
    Weakness(
        "What a client says of itself is taken for what the server says: the role of a message, its author",
        "",
        "a client's message is the user's; a user's name is the token's",
        [
            (CLIENTS, "test_a_message_of_a_client_is_the_users_whatever_it_says"),
            (CLIENTS, "test_whatever_json_a_client_sends_its_chat_can_be_read_by_others"),
        ],
    ),
    Weakness(
        "What a client chose is repeated in each frame of a long answer",
        "",
        "what is repeated is short",
        [
            (CLIENTS, "test_no_id_of_a_request_is_so_long_that_each_frame_of_its_answer_costs_much"),
            (CLIENTS, "test_no_models_name_is_so_long_that_each_chunk_costs_much"),
        ],
    ),
    Weakness(
        "A client that resumes is given back what it may not have any more",
        "",
        "authorised afresh before anything is replayed: by token, hooks, rules, and what the server took meanwhile",
        [
            (RETURNING, "test_a_room_that_was_taken_from_a_client_meanwhile_is_not_given_back"),
            (RETURNING, "test_who_was_disconnected_while_it_was_away_returns_with_nothing"),
            (RETURNING, "test_the_hook_of_a_room_is_asked_again_though_the_server_gave_it"),
            (RETURNING, "test_a_client_whose_token_was_revoked_or_whose_user_is_blocked_does_not_return"),
            (RETURNING, "test_a_secret_of_one_namespace_opens_no_session_of_another"),
        ],
    ),
]


def functions_of(path: str) -> set[str]:
    """The functions of a file below tests/."""
    tree = ast.parse((ROOT / "tests" / path).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def _row(it: Weakness) -> str:
    tests = "<br>".join(f"`{path}`: {name.removeprefix('test_').replace('_', ' ')}" for path, name in it.tests)
    return f"| {it.what} | {it.where} | {it.here} | {tests} |"


def with_table(page: str) -> str:
    """The page with the table of today between its two marks."""
    before, _, rest = page.partition(BEGIN)
    lines = ["| weakness | published of | here | tests, below `tests/` |", "|---|---|---|---|", *map(_row, LISTED)]
    return f"{before}{BEGIN}{chr(10).join(lines)}{END}{rest.partition(END)[2]}"


if __name__ == "__main__" and "--write" in sys.argv:
    PAGE.write_text(with_table(PAGE.read_text()))
