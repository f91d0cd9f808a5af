from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.views.decorators.http import require_POST

from shop.models import Order


def orders(request: HttpRequest) -> HttpResponse:
    return render(request, "orders.html", {"orders": Order.objects.order_by("-pk")[:20]})


@require_POST
def order(request: HttpRequest) -> HttpResponse:
    Order.objects.create(item=request.POST["item"])
    return redirect("/")


urlpatterns = [path("", orders), path("order", order)]
