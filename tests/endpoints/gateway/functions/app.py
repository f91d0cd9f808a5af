"""Lambda handlers, as they are deployed at AWS: they know nothing of Freshet."""

import json
import os
import time


def echo(event, context):
    return {
        "statusCode": 200,
        "body": json.dumps({"event": event["requestContext"]["eventType"], "body": event["body"]}),
    }


def connect(event, context):
    if event.get("queryStringParameters", {}).get("who") == "nobody":
        return {"statusCode": 401, "body": "no"}
    return {"statusCode": 200, "headers": {"Sec-WebSocket-Protocol": "chat"}}


def about(event, context):
    print("a handler may print")
    return {
        "statusCode": 200,
        "body": json.dumps(
            {
                "pid": os.getpid(),
                "table": os.environ.get("TABLE"),
                "name": context.function_name,
                "left": context.get_remaining_time_in_millis(),
                "id": context.aws_request_id,
            }
        ),
    }


def fail(event, context):
    raise ValueError("a secret of the handler")


def crash(event, context):
    os._exit(3)


def slow(event, context):
    time.sleep(60)


def nothing(event, context):
    return None


async def coroutine(event, context):
    return {"statusCode": 200, "body": "from a coroutine"}


def encoded(event, context):
    return {"statusCode": 200, "body": "AP8=", "isBase64Encoded": True}


def garbage(event, context):
    return {"statusCode": 200, "body": "not base64!", "isBase64Encoded": True}


def large(event, context):
    return {"statusCode": 200, "body": "x" * 2_000_000}


def post_back(event, context):
    import boto3

    where = event["requestContext"]
    client = boto3.client("apigatewaymanagementapi", endpoint_url=f"https://{where['domainName']}/{where['stage']}")
    client.post_to_connection(ConnectionId=where["connectionId"], Data=b"posted by the handler")
    return {"statusCode": 200}


def authorize(event, context):
    token = event["headers"]["Auth"]
    if token == "unauthorized":
        raise Exception("Unauthorized")
    if token == "broken":
        return {"principalId": "x"}
    effect = "Allow" if token == "allow" else "Deny"
    resource = event["methodArn"] if token != "rest" else event["methodArn"].rsplit("/", 1)[0] + "/*/*"
    if token == "rest":
        effect = "Allow"
    statement = {"Action": "execute-api:Invoke", "Effect": effect, "Resource": resource}
    return {
        "principalId": "alice",
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
        "context": {"plan": "gold"},
    }
