"""The three functions of the chat, as they run at AWS."""

import json

import boto3
from table import Table


def connect(event, context):
    Table().add(event["requestContext"]["connectionId"])
    return {"statusCode": 200}


def disconnect(event, context):
    Table().remove(event["requestContext"]["connectionId"])
    return {"statusCode": 200}


def send(event, context):
    where = event["requestContext"]
    client = boto3.client("apigatewaymanagementapi", endpoint_url=f"https://{where['domainName']}/{where['stage']}")
    data = json.loads(event["body"])["data"].encode()
    for connection_id in Table().all():
        try:
            client.post_to_connection(ConnectionId=connection_id, Data=data)
        except client.exceptions.GoneException:
            Table().remove(connection_id)
    return {"statusCode": 200}
