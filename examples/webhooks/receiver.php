<?php
// A receiver of Freshet's webhooks in PHP, with nothing but PHP: php -S 127.0.0.1:9000 receiver.php

function verified(array $server, string $body, string $key): bool
{
    $id = $server['HTTP_WEBHOOK_ID'] ?? '';
    $timestamp = $server['HTTP_WEBHOOK_TIMESTAMP'] ?? '';
    if ($id === '' || !ctype_digit($timestamp) || abs(time() - (int) $timestamp) > 300) {
        return false;
    }
    $expected = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$timestamp.$body", $key, true));
    foreach (explode(' ', $server['HTTP_WEBHOOK_SIGNATURE'] ?? '') as $entry) {
        if (hash_equals($expected, $entry)) {
            return true;
        }
    }
    return false;
}

function answer(string $type, array $data): array
{
    return match ($type) {
        'client.connect' => ($data['headers']['authorization'] ?? '') === 'Bearer let-me-in'
            ? ['user' => 'alice']
            : ['disconnect' => ['code' => 4501, 'reason' => 'who are you?']],
        'client.subscribe' => $data['parameters']['name'] === 'secret'
            ? ['error' => ['code' => 1003, 'message' => "{$data['user']} may not"]]
            : [],
        'client.publish' => ['data' => [...$data['data'], 'from' => $data['user']]],
        'client.rpc' => $data['method'] === 'double'
            ? ['data' => $data['data'] * 2]
            : ['error' => ['code' => 1004, 'message' => 'no such method']],
        default => [],
    };
}

$body = file_get_contents('php://input');
$key = base64_decode(str_replace('whsec_', '', getenv('FRESHET_WEBHOOK_SECRET')), true);
if (!$key || !verified($_SERVER, $body, $key)) {
    http_response_code(401);
    return;
}
$webhook = json_decode($body, true);
error_log($webhook['type'] . ' ' . json_encode($webhook['data']['channel'] ?? $webhook['data']['user'] ?? null));
header('content-type: application/json');
echo json_encode((object) answer($webhook['type'], $webhook['data']));
