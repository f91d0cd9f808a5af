from typing import Any

from django.db import models

from shop.live import publish


class Order(models.Model):
    item = models.CharField(max_length=100)

    def save(self, *arguments: Any, **options: Any) -> None:
        super().save(*arguments, **options)
        publish("orders", {"id": self.pk, "item": self.item})
